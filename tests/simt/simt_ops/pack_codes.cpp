// What the binding of the op does, for callers with plain pointers: simt_ops/pack_codes.py.

#include "kernels/cuda/pack_codes_kernel.cu"

extern "C" __attribute__((visibility("default"))) int simt_pack_codes(int element, const void* h, int64_t rows,
                                                                      int64_t bits, uint8_t* codes) {
  return rdh::cuda::launch_pack_codes(static_cast<rdh::Element>(element), h, rows, bits, codes, nullptr);
}
