// What the binding of the op does, for callers with plain pointers: simt_ops/bit_planes.py.

#include "kernels/cuda/bit_planes_kernel.cu"

extern "C" __attribute__((visibility("default"))) int simt_bit_planes(const uint8_t* codes, int64_t rows, int64_t bytes,
                                                                      int64_t bits, uint64_t* planes) {
  return rdh::cuda::launch_bit_planes(codes, rows, bytes, bits, planes, nullptr);
}
