// What the binding of the op does, for callers with plain pointers: simt_ops/unpack_codes.py.

#include "kernels/cuda/unpack_codes_kernel.cu"

extern "C" __attribute__((visibility("default"))) int simt_unpack_codes(const uint8_t* codes, int64_t rows,
                                                                        int64_t bits, float* signs) {
  return rdh::cuda::launch_unpack_codes(codes, rows, bits, signs, nullptr);
}
