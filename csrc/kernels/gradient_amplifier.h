// tanh and sigmoid with the gradient amplifier of RDH (Eq. 3): the formula, and the launchers of both backends.
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
#include "common/host_device.h"

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

// exp(-z) = value * 2^-shift with shift 0 or Shift::bits: far out the exponential would be subnormal, or 0, although
// its product with a large gradient is neither.
template <typename Real>
struct UnderflowShift;

template <>
struct UnderflowShift<float> {
  static constexpr float start = 60.0f;
  static constexpr float hi = 44.361419677734375f;  // 64 ln 2 in two floats
  static constexpr float lo = -1.21897875e-7f;
  static constexpr float factor = 5.421010862427522e-20f;  // 2^-64
};

template <>
struct UnderflowShift<double> {
  static constexpr double start = 600.0;
  static constexpr double hi = 354.89135644669199;  // 512 ln 2 in two doubles
  static constexpr double lo = 1.1873519686893054e-14;
  static constexpr double factor = 7.458340731200207e-155;  // 2^-512
};

// One element at a time, in Real = float or double; rate = rate_hi + rate_lo. The product rate |x| is carried in two
// parts: rounded to one, its error of z ulp(1) / 2 would be multiplied up to |z| times by the exponential.
template <typename Real>
struct SaturatingFormula {
  Real rate_hi, rate_lo, slope, amplified_slope, threshold, dead_threshold;

  RDH_HD void product(Real magnitude, Real& z, Real& z_lo) const {
    z = rate_hi * magnitude;
    z_lo = std::fma(rate_hi, magnitude, -z) + rate_lo * magnitude;
    if (!(z < Real(1e4))) z_lo = 0;  // the exponential is 0; inf - inf would make it NaN
  }

  RDH_HD Real tanh(Real x) const {
    Real z, z_lo;
    product(std::fabs(x), z, z_lo);
    Real em1 = std::expm1(-z);
    em1 = std::fma(-(em1 + 1), z_lo, em1);
    return std::copysign(-em1 / (2 + em1), x);
  }

  RDH_HD Real sigmoid(Real x) const {
    Real z, z_lo;
    product(std::fabs(x), z, z_lo);
    Real e = std::exp(-z);
    e = std::fma(-e, z_lo, e);
    return (x < 0 ? e : Real(1)) / (1 + e);
  }

  RDH_HD bool saturated(Real x) const { return std::fabs(x) >= threshold; }

  // sign(0) equals no sign and NaN compares false, so neither a zero nor a NaN gradient is ever amplified.
  RDH_HD bool dead(Real grad, Real x) const {
    return std::fabs(x) >= dead_threshold && (std::signbit(x) ? -grad : grad) > 0;
  }

  RDH_HD Real gradient(Real grad, Real x, bool is_dead) const {
    using Shift = UnderflowShift<Real>;
    Real z, z_lo;
    product(std::fabs(x), z, z_lo);
    const bool far = z > Shift::start;
    if (far) {
      z -= Shift::hi;
      z_lo -= Shift::lo;
    }
    Real e = std::exp(-z);
    e = std::fma(-e, z_lo, e);
    const Real once = far ? Real(0) : e;  // what (1 + e) sees
    const Real derivative = (is_dead ? amplified_slope : slope) * e / std::fma(once, once + 2, Real(1));
    return derivative * grad * (far ? Shift::factor : Real(1));
  }
};

// The smallest Real that is >= value: comparing a Real with it decides exactly as comparing with the double would.
template <typename Real>
Real round_up(double value) {
  Real rounded = static_cast<Real>(value);
  if (static_cast<double>(rounded) < value) rounded = std::nextafter(rounded, static_cast<Real>(INFINITY));
  return rounded;
}

template <typename Real>
SaturatingFormula<Real> saturating_formula(const AmplifierParams& p) {
  SaturatingFormula<Real> f;
  f.rate_hi = static_cast<Real>(p.rate);
  f.rate_lo = static_cast<Real>(p.rate - static_cast<double>(f.rate_hi));
  f.slope = static_cast<Real>(p.slope);
  f.amplified_slope = static_cast<Real>(p.slope * p.alpha);
  f.threshold = round_up<Real>(p.threshold);
  // at tau = 0 every bit is saturated, but a bit of value 0 has no sign that a gradient could share
  f.dead_threshold = f.threshold > 0 ? f.threshold : round_up<Real>(1e-320);
  return f;
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
