// tanh and sigmoid with the gradient amplifier of RDH (Eq. 3): parameters, and the launchers of both backends. The
// formulas are in gradient_amplifier_formula.inl.
//
// Both activations are functions of e = exp(-rate |x|):
//   tanh(beta x)     rate = 2 beta, slope = 4 beta, h = sign(x) (1 - e) / (1 + e)
//   sigmoid(beta x)  rate =   beta, slope =   beta, h = 1 / (1 + e) for x >= 0, e / (1 + e) for x < 0
// and have the derivative slope e / (1 + e)^2 and the bit tanh(rate x / 2), so |bit| >= tau means |x| >= threshold with
//   threshold = 2 atanh(tau) / rate.
// Eq. 3, g = dL/dh: dL/dx = a g slope e / (1 + e)^2, a = alpha where |x| >= threshold, sign(x) = sign(g), g != 0,
// else 1. The derivative comes from x and never from h: h rounds to +-1 long before e underflows.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/element.h"

namespace rdh {

enum class Activation { identity, tanh, sigmoid };

struct AmplifierParams {
  double rate;       // of exp(-rate |x|); unused for identity
  double slope;      // of the derivative; unused for identity
  double threshold;  // on |x| (identity: on |h|, which is tau)
  double alpha;
};

struct BitCounts {
  int64_t dead;
  int64_t saturated;
};

inline AmplifierParams amplifier_params(Activation activation, double tau, double alpha, double beta) {
  if (activation == Activation::identity) return {0.0, 0.0, tau, alpha};
  const bool is_tanh = activation == Activation::tanh;
  const double rate = is_tanh ? 2 * beta : beta;
  return {rate, is_tanh ? 4 * beta : beta, 2 * std::atanh(tau) / rate, alpha};
}

// The smallest Real that is >= value: comparing a Real with it decides exactly as comparing with the double would.
template <typename Real>
Real round_up(double value) {
  Real rounded = static_cast<Real>(value);
  if (static_cast<double>(rounded) < value) rounded = std::nextafter(rounded, static_cast<Real>(INFINITY));
  return rounded;
}

// The parameters in the arithmetic of a backend.
template <typename Real>
struct AmplifierConstants {
  Real slope, amplified_slope, threshold, dead_threshold;
};

template <typename Real>
AmplifierConstants<Real> amplifier_constants(const AmplifierParams& p) {
  const Real threshold = round_up<Real>(p.threshold);
  // at tau = 0 every bit is saturated, but a bit of value 0 has no sign that a gradient could share
  const Real dead_threshold = threshold > 0 ? threshold : round_up<Real>(1e-320);
  return {static_cast<Real>(p.slope), static_cast<Real>(p.slope * p.alpha), threshold, dead_threshold};
}

namespace cpu {

// Contiguous, non-overlapping; the caller splits n over threads, and passes to all of them one `stream`: whether the
// whole tensor is so large that results should go past the cache.
bool gradient_amplifier_streams(Element element, int64_t n);
void gradient_amplifier_forward(Activation activation, Element element, const void* x, void* h, int64_t n,
                                const AmplifierParams& params, bool stream);

// counts may be null. For Activation::identity `x` is h, and dx = GA(grad).
void gradient_amplifier_backward(Activation activation, Element element, const void* grad, const void* x, void* dx,
                                 int64_t n, const AmplifierParams& params, BitCounts* counts, bool stream);

// Bytes read and written per element of `element_bytes`: together the five passes that benchmarks compare with.
constexpr int64_t gradient_amplifier_forward_bytes(int64_t element_bytes) { return 2 * element_bytes; }
constexpr int64_t gradient_amplifier_backward_bytes(int64_t element_bytes) { return 3 * element_bytes; }

}  // namespace cpu

namespace cuda {

// Asynchronous on `stream` (a cudaStream_t). Returns a cudaError_t as int. `counts` is three doubles on the device,
// zeroed, or null: dead, saturated and total are added to it.
int launch_gradient_amplifier_forward(Activation activation, Element element, const void* x, void* h, int64_t n,
                                      const AmplifierParams& params, void* stream);
int launch_gradient_amplifier_backward(Activation activation, Element element, const void* grad, const void* x,
                                       void* dx, int64_t n, const AmplifierParams& params, double* counts,
                                       void* stream);

}  // namespace cuda
}  // namespace rdh
