// What the binding of the ops does, for callers with plain pointers: simt_ops/stable_ranks.py.

#include "kernels/cuda/stable_ranks_kernel.cu"

#define EXPORT extern "C" __attribute__((visibility("default")))

using rdh::HammingInputs;
using rdh::HammingLabels;

EXPORT int simt_relevant_items(const int64_t* histogram, int64_t queries, int64_t bits, int64_t* offsets) {
  return rdh::cuda::launch_relevant_items(histogram, queries, bits, offsets, nullptr);
}

EXPORT int64_t simt_stable_ranks_workspace(const HammingInputs* inputs, const HammingLabels* labels) {
  return rdh::cuda::stable_ranks_workspace(*inputs, *labels);
}

EXPORT int simt_stable_ranks(const HammingInputs* inputs, const HammingLabels* labels, const int64_t* histogram,
                             int64_t* ranks, void* workspace) {
  return rdh::cuda::launch_stable_ranks(*inputs, *labels, histogram, ranks, workspace, nullptr);
}

EXPORT int simt_stable_precision_sum(const HammingInputs* inputs, const HammingLabels* labels, const int64_t* histogram,
                                     const int64_t* shift, int64_t limit, int64_t* sum, int64_t* found,
                                     void* workspace) {
  return rdh::cuda::launch_stable_precision_sum(*inputs, *labels, histogram, shift, limit, sum, found, workspace,
                                                nullptr);
}
