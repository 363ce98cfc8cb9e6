// What the binding of the op does, for callers with plain pointers: simt_ops/hamming_topk.py.

#include "kernels/cuda/hamming_topk_kernel.cu"

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int64_t simt_hamming_topk_workspace(const rdh::HammingInputs* inputs, int64_t k) {
  return rdh::cuda::hamming_topk_workspace(*inputs, k);
}

EXPORT int simt_hamming_topk(const rdh::HammingInputs* inputs, int64_t k, int16_t* distances, int64_t* indices,
                             void* workspace) {
  return rdh::cuda::launch_hamming_topk(*inputs, k, distances, indices, workspace, nullptr);
}
