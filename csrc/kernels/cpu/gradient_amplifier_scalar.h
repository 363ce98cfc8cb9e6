// The amplifier one element at a time, in double and with the C library's functions, for CPUs that have no vector level
// of ours: within 2 ulp and gradients within 4 in double; in the narrower types that, rounded once.
#pragma once

#include <cmath>

#include "kernels/gradient_amplifier.h"

namespace rdh::cpu {

class ScalarFormula {
 public:
  explicit ScalarFormula(const AmplifierParams& p)
      : rate_(p.rate),
        slope_(p.slope),
        amplified_slope_(p.slope * p.alpha),
        constants_(amplifier_constants<double>(p)) {}

  // tanh(z / 2) = (e^z - 1) / (e^z + 1): unlike with e^-z, errors of the exponential are not magnified
  double tanh(double x) const {
    double z, z_lo;
    product(x, z, z_lo);
    if (z > 80) z = 80;
    const double em1 = std::expm1(z), den = em1 + 2;
    const double den_lo = em1 <= 2 ? em1 - (den - 2) : 2 - (den - em1);
    const double h = em1 / den;
    return std::copysign(std::fma((1 - h) / 2, std::fma(1 + h, z_lo, -h * den_lo), h), x);
  }

  double sigmoid(double x) const {
    double z, z_lo;
    product(x, z, z_lo);
    const double e = std::exp(-z), den = 1 + e, den_lo = e - (den - 1);
    const double h = (x < 0 ? e : 1.0) / den;
    const double correction = x < 0 ? -(1 - h) * (den_lo + z_lo) : std::fma(1 - h, z_lo, -h * den_lo);
    return std::fma(h, correction, h);
  }

  bool saturated(double x) const { return std::fabs(x) >= constants_.threshold; }

  // sign(0) equals no sign and NaN compares false, so neither a zero nor a NaN gradient is ever amplified.
  bool dead(double grad, double x) const {
    return std::fabs(x) >= constants_.dead_threshold && (std::signbit(x) ? -grad : grad) > 0;
  }

  // slope e / (1 + e)^2 grad. Far out e is taken times 2^512, and the product with the gradient times 2^-512: e alone
  // would be subnormal, or 0, although the product is neither.
  double gradient(double grad, double x, bool is_dead) const {
    constexpr double start = 600, ln_hi = 354.89135644669199, ln_lo = 1.1873519686893054e-14;  // 512 ln 2
    constexpr double shift = 7.458340731200207e-155;                                           // 2^-512
    double z, z_lo;
    product(x, z, z_lo);
    const bool far = z > start;
    if (far) {
      z -= ln_hi;
      z_lo -= ln_lo;
    }
    const double e = std::exp(-z), once = far ? 0.0 : e;  // what (1 + e) sees
    const double slope = is_dead ? amplified_slope_ : slope_;
    const double den = std::fma(once, once + 2, 1.0), num = slope * e, num_lo = std::fma(slope, e, -num);
    const double quotient = num / den, rest = std::fma(-quotient, den, num) + num_lo;
    // d log(e / (1 + e)^2) / dz = -(1 - e) / (1 + e)
    const double correction = std::fma(num, -z_lo * (1 - once * once) / den, rest) / den;
    return (quotient + correction) * grad * (far ? shift : 1.0);
  }

 private:
  // rate |x| in two parts: rounded to one, its error of z ulp(1) / 2 would be multiplied up to |z| times by the
  // exponential
  void product(double x, double& z, double& z_lo) const {
    z = rate_ * std::fabs(x);
    z_lo = std::fma(rate_, std::fabs(x), -z);
    if (!(z < 1e4)) z_lo = 0;  // the exponential is 0; inf - inf would make it NaN
  }

  double rate_, slope_, amplified_slope_;
  AmplifierConstants<double> constants_;
};

}  // namespace rdh::cpu
