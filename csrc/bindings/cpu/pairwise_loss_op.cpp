// Registers the CPU kernels of the pairwise loss under the schemas of rdh_ext/ops/pairwise_loss.py.

#include "bindings/pairwise_loss.h"

#include "bindings/checks.h"
#include "bindings/cpu/parallel.h"

namespace rdh {
namespace {

struct Backend {
  static bool are_class_ids(const int64_t* ids, int64_t n) {
    int64_t all = 0;
    for (int64_t i = 0; i < n; ++i) all |= ids[i];
    return all >= 0;
  }

  static void pairwise_loss(const char* op, const PairwiseParams& params, const PairwiseInputs& inputs, Precision,
                            const PairwiseOutputs& outputs, const Tensor&) {
    const bool enough = cpu::pairwise_loss(params, inputs, outputs, torch_parallel);
    RDH_CHECK(enough, op, ": out of memory: no room for the workspace of ", params.rows, " by ", params.columns,
              " pairs of ", params.bits, " bits");
  }

  static void pairwise_loss_backward(const char* name, const Tensor& grad_out, const Tensor& grad, Tensor& out) {
    const void* factor = grad_out.const_data_ptr();
    const bool wide = grad.scalar_type() == ScalarType::Double;
    cpu::pairwise_loss_backward(
        element_of(out, name), grad.const_data_ptr(),
        wide ? *static_cast<const double*>(factor) : static_cast<double>(*static_cast<const float*>(factor)),
        out.mutable_data_ptr(), out.numel());
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CPU, m) { rdh::PairwiseLossOps<rdh::Backend>::add_to(m); }
