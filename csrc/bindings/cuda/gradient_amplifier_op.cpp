// Registers the amplifier's CUDA kernels under the schemas of rdh_ext/ops/gradient_amplifier.py.

#include "bindings/gradient_amplifier.h"

#include "bindings/checks.h"
#include "bindings/cuda/stream.h"

namespace rdh {
namespace {

struct Backend {
  static Tensor forward(Activation activation, const char* op, const Tensor& x_, double tau, double alpha,
                        double beta) {
    const Element element = element_of(x_, op);
    const DeviceGuard guard(x_.get_device_index());
    const Tensor x = as_contiguous(x_, op);
    Tensor h = fresh_like(x);
    check_launch(op, cuda::launch_gradient_amplifier_forward(
                         activation, element, x.const_data_ptr(), h.mutable_data_ptr(), x.numel(),
                         amplifier_params(activation, tau, alpha, beta), current_stream(x)));
    return h;
  }

  static std::tuple<Tensor, Tensor> backward(Activation activation, const char* op, const Tensor& grad_,
                                             const Tensor& x_, double tau, double alpha, double beta, bool count) {
    const Element element = element_of(x_, op);
    check_gradient(grad_, x_, op);
    const DeviceGuard guard(x_.get_device_index());
    const Tensor grad = as_contiguous(grad_, op), x = as_contiguous(x_, op);
    Tensor dx = fresh_like(x);
    Tensor counts = torch::stable::new_zeros(x, {count ? 3 : 0}, ScalarType::Double);
    check_launch(op, cuda::launch_gradient_amplifier_backward(
                         activation, element, grad.const_data_ptr(), x.const_data_ptr(), dx.mutable_data_ptr(),
                         x.numel(), amplifier_params(activation, tau, alpha, beta),
                         count ? counts.mutable_data_ptr<double>() : nullptr, current_stream(x)));
    return {dx, counts};
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CUDA, m) { rdh::GradientAmplifierOps<rdh::Backend>::add_to(m); }
