// What the binding of the op does, for callers with plain pointers: simt_ops/gradient_amplifier.py.

#include "kernels/cuda/gradient_amplifier_kernel.cu"

#define EXPORT extern "C" __attribute__((visibility("default")))

using rdh::Activation;
using rdh::Element;

EXPORT int simt_gradient_amplifier_forward(int activation, int element, const void* x, void* h, int64_t n, double tau,
                                           double alpha, double beta) {
  const Activation a = static_cast<Activation>(activation);
  return rdh::cuda::launch_gradient_amplifier_forward(a, static_cast<Element>(element), x, h, n,
                                                      rdh::amplifier_params(a, tau, alpha, beta), nullptr);
}

EXPORT int simt_gradient_amplifier_backward(int activation, int element, const void* grad, const void* x, void* dx,
                                            int64_t n, double tau, double alpha, double beta, double* counts) {
  const Activation a = static_cast<Activation>(activation);
  return rdh::cuda::launch_gradient_amplifier_backward(a, static_cast<Element>(element), grad, x, dx, n,
                                                       rdh::amplifier_params(a, tau, alpha, beta), counts, nullptr);
}
