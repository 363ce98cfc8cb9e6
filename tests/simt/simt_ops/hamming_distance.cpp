// What the binding of the op does, for callers with plain pointers: simt_ops/hamming_distance.py.

#include "kernels/cuda/hamming_distance_kernel.cu"

extern "C" __attribute__((visibility("default"))) int simt_hamming_distance(const rdh::HammingInputs* inputs,
                                                                            int16_t* out) {
  return rdh::cuda::launch_hamming_distance(*inputs, out, nullptr);
}
