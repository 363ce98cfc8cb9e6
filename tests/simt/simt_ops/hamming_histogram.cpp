// What the binding of the op does, for callers with plain pointers: simt_ops/hamming_histogram.py.

#include "kernels/cuda/hamming_histogram_kernel.cu"

#define EXPORT extern "C" __attribute__((visibility("default")))

using rdh::HammingInputs;
using rdh::HammingLabels;

EXPORT int64_t simt_hamming_histogram_workspace(const HammingInputs* inputs, const HammingLabels* labels) {
  return rdh::cuda::hamming_histogram_workspace(*inputs, *labels);
}

EXPORT int simt_hamming_histogram(const HammingInputs* inputs, const HammingLabels* labels, int64_t* out,
                                  void* workspace) {
  return rdh::cuda::launch_hamming_histogram(*inputs, *labels, out, workspace, nullptr);
}
