// The amplifier's ops under the schemas of rdh_ext/ops/gradient_amplifier.py, over the forward and the backward of a
// Backend: bindings/cpu and bindings/cuda have one each.
#pragma once

#include "kernels/gradient_amplifier.h"

#include <optional>
#include <tuple>

#include "bindings/checks.h"

namespace rdh {

template <class Backend>
struct GradientAmplifierOps {
  using Gradient = std::tuple<Tensor, Tensor>;  // dL/dx, and the counts or nothing

  static Tensor tanh(const Tensor& x, double tau, double alpha, double beta, const std::optional<Tensor>&) {
    return Backend::forward(Activation::tanh, "amplified_tanh", x, tau, alpha, beta);
  }
  static Gradient tanh_backward(const Tensor& grad, const Tensor& x, double tau, double alpha, double beta,
                                bool count) {
    return Backend::backward(Activation::tanh, "amplified_tanh_backward", grad, x, tau, alpha, beta, count);
  }

  static Tensor sigmoid(const Tensor& x, double tau, double alpha, double beta, const std::optional<Tensor>&) {
    return Backend::forward(Activation::sigmoid, "amplified_sigmoid", x, tau, alpha, beta);
  }
  static Gradient sigmoid_backward(const Tensor& grad, const Tensor& x, double tau, double alpha, double beta,
                                   bool count) {
    return Backend::backward(Activation::sigmoid, "amplified_sigmoid_backward", grad, x, tau, alpha, beta, count);
  }

  static Gradient identity_backward(const Tensor& grad, const Tensor& h, double tau, double alpha, bool count) {
    return Backend::backward(Activation::identity, "gradient_amplifier_backward", grad, h, tau, alpha, 1.0, count);
  }

  template <class Library>
  static void add_to(Library& library) {
    library.impl("amplified_tanh", TORCH_BOX(&tanh));
    library.impl("amplified_tanh_backward", TORCH_BOX(&tanh_backward));
    library.impl("amplified_sigmoid", TORCH_BOX(&sigmoid));
    library.impl("amplified_sigmoid_backward", TORCH_BOX(&sigmoid_backward));
    library.impl("gradient_amplifier_backward", TORCH_BOX(&identity_backward));
  }
};

}  // namespace rdh
