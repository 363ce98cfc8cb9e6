// A lane type of one lane, for devices whose threads are the lanes: the interface of simd_<level>.inl over plain
// numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/host_device.h"

namespace rdh {

template <class Real_>
struct One {
  using Real = Real_;
  using V = Real;
  using M = bool;
  static constexpr int largest_shift = sizeof(Real) == 4 ? 252 : 2044;  // of scale and half_powers

  RDH_HD static V set(Real v) { return v; }
  RDH_HD static V add(V a, V b) { return a + b; }
  RDH_HD static V sub(V a, V b) { return a - b; }
  RDH_HD static V mul(V a, V b) { return a * b; }
  RDH_HD static V div(V a, V b) { return a / b; }
  RDH_HD static V fma(V a, V b, V c) { return std::fma(a, b, c); }    // a b + c
  RDH_HD static V fms(V a, V b, V c) { return std::fma(a, b, -c); }   // a b - c
  RDH_HD static V fnma(V a, V b, V c) { return std::fma(-a, b, c); }  // c - a b
  RDH_HD static V min(V a, V b) { return a < b ? a : b; }             // b where either is NaN
  RDH_HD static V abs(V a) { return std::fabs(a); }
  RDH_HD static V neg(V a) { return -a; }
  // magnitude >= 0 with the sign of s; a with its sign flipped where s is negative
  RDH_HD static V with_sign(V magnitude, V s) { return std::copysign(magnitude, s); }
  RDH_HD static V flip_sign(V a, V s) { return std::signbit(s) ? -a : a; }

  RDH_HD static M greater_equal(V a, V b) { return a >= b; }
  RDH_HD static M greater(V a, V b) { return a > b; }
  RDH_HD static M and_greater(M m, V a, V b) { return m && a > b; }
  RDH_HD static V select(M m, V yes, V no) { return m ? yes : no; }

  // v 2^n for integral n in [-largest_shift, 0], in two normal steps, so that a subnormal result is rounded once
  RDH_HD static V scale(V v, V n) {
    V a, b;
    half_powers(n, a, b);
    return v * a * b;
  }
  // the same for v and v 2^n normal; a NaN stays one
  RDH_HD static V scale_normal(V v, V n) { return from_bits(to_bits(v) + (whole(n) << mantissa)); }
  // a b = 2^n for integral n in [-largest_shift, 0], both normal; a NaN gives 1
  RDH_HD static void half_powers(V n, V& a, V& b) {
    const Bits all = whole(n), half = all >> 1;
    a = from_bits((half + bias) << mantissa);
    b = from_bits((all - half + bias) << mantissa);
  }

 private:
  using Bits = std::conditional_t<sizeof(Real) == 4, int32_t, int64_t>;
  static constexpr int mantissa = sizeof(Real) == 4 ? 23 : 52;
  static constexpr Bits bias = sizeof(Real) == 4 ? 127 : 1023;

  RDH_HD static Bits whole(V n) { return n >= -1e6f && n <= 1e6f ? static_cast<Bits>(n) : Bits{0}; }
  RDH_HD static Bits to_bits(V v) {
    Bits bits;
    std::memcpy(&bits, &v, sizeof bits);
    return bits;
  }
  RDH_HD static V from_bits(Bits bits) {
    V v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
  }
};

}  // namespace rdh
