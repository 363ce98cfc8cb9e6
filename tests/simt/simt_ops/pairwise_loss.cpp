// What the binding of the op does, for callers with plain pointers: simt_ops/pairwise_loss.py.

#include "kernels/cuda/pairwise_loss_kernel.cu"

#define EXPORT extern "C" __attribute__((visibility("default")))

using rdh::PairwiseInputs;
using rdh::PairwiseOutputs;
using rdh::PairwiseParams;
using rdh::cuda::Products;

namespace {

Products products_of(const PairwiseParams& params, const PairwiseInputs& inputs, int allowed) {
  return rdh::cuda::pairwise_loss_products(params, inputs, static_cast<Products>(allowed), 1000);
}

}  // namespace

EXPORT int64_t simt_pairwise_loss_workspace(const PairwiseParams* params, const PairwiseInputs* inputs, int allowed) {
  return rdh::cuda::pairwise_loss_workspace(*params, *inputs, products_of(*params, *inputs, allowed));
}

EXPORT int simt_pairwise_loss(const PairwiseParams* params, const PairwiseInputs* inputs,
                              const PairwiseOutputs* outputs, int allowed, void* workspace) {
  return rdh::cuda::launch_pairwise_loss(*params, *inputs, *outputs, products_of(*params, *inputs, allowed), workspace,
                                         nullptr);
}

EXPORT int simt_pairwise_loss_backward(int element, const void* from, const void* factor, void* to, int64_t n) {
  return rdh::cuda::launch_pairwise_loss_backward(static_cast<rdh::Element>(element), from, factor, to, n, nullptr);
}
