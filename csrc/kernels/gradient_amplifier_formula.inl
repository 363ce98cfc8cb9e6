// The amplifier's formulas over any lane type S; included after simd_exp2.inl, by the CPU kernels inside each target
// region and by the CUDA kernels, whose results are therefore the simulator's to the last bit. What a formula holds is
// made on the host.
//
// Numerics: tanh and sigmoid within 2 ulp, the gradient within 4, which tests hold every lane type to; what AVX2
// reaches over every float of the relevant range is in benchmarks/results.

// (num + num_lo) / (den + den_lo), the low parts being what rounding took from the high ones: half an ulp and a little.
template <class S>
RDH_HD typename S::V divide(typename S::V num, typename S::V num_lo, typename S::V den, typename S::V den_lo) {
  using V = typename S::V;
  const V reciprocal = S::div(S::set(1), den);
  const V quotient = S::mul(num, reciprocal);
  const V rest = S::fnma(quotient, den_lo, S::add(S::fnma(quotient, den, num), num_lo));
  return S::fma(rest, reciprocal, quotient);
}

template <class S>
struct ExponentialTanh {
  using V = typename S::V;
  NegativeExponential<S> exponential;
  V largest;  // beyond 2^-64 the result is 1 in every type

  explicit ExponentialTanh(const AmplifierParams& p)
      : exponential(p.rate), largest(S::set(NegativeExponential<S>::reach(p.rate, 64))) {}

  // e - 1 from its parts without cancellation, then (1 - e) / (1 + e) = -(e - 1) / (2 + (e - 1))
  RDH_HD V operator()(V x) const {
    V fq, m;
    exponential.precise(S::min(largest, S::abs(x)), fq, m);
    const V one = S::set(1), two = S::set(2), power = S::scale_normal(one, m);
    const V whole = S::sub(power, one);
    const V em1 = S::fma(fq, power, whole), em1_lo = S::fma(fq, power, S::sub(whole, em1));
    const V den = S::add(two, em1), den_lo = S::add(S::sub(em1, S::sub(den, two)), em1_lo);
    return S::with_sign(divide<S>(S::neg(em1), S::neg(em1_lo), den, den_lo), x);
  }
};

template <class S>
struct Sigmoid {
  using V = typename S::V;
  NegativeExponential<S> exponential;
  V largest;

  explicit Sigmoid(const AmplifierParams& p)
      : exponential(p.rate), largest(S::set(NegativeExponential<S>::reach(p.rate, S::largest_shift))) {}

  // 1 / (1 + e) or e / (1 + e); the power of two comes last, so that a subnormal result is rounded once
  RDH_HD V operator()(V x) const {
    V fq, m;
    exponential.precise(S::min(largest, S::abs(x)), fq, m);
    const V zero = S::set(0), one = S::set(1);
    const V mantissa = S::add(one, fq), mantissa_lo = S::sub(fq, S::sub(mantissa, one));
    const V e = S::scale(mantissa, m);
    const V den = S::add(one, e), den_lo = S::sub(e, S::sub(den, one));
    const typename S::M negative = S::greater(zero, x);
    const V quotient =
        divide<S>(S::select(negative, mantissa, one), S::select(negative, mantissa_lo, zero), den, den_lo);
    return S::scale(quotient, S::select(negative, m, zero));
  }
};

// Eq. 3: which bits are dead, and what their gradient is multiplied with.
template <class S>
struct Amplify {
  using V = typename S::V;
  using M = typename S::M;
  V threshold, dead_threshold;

  explicit Amplify(const AmplifierConstants<typename S::Real>& f)
      : threshold(S::set(f.threshold)), dead_threshold(S::set(f.dead_threshold)) {}

  RDH_HD M saturated(V x) const { return S::greater_equal(S::abs(x), threshold); }
  // where alpha applies: also to a zero gradient, which it does not change
  RDH_HD M amplified(V grad, V x) const { return S::greater_equal(S::flip_sign(x, grad), dead_threshold); }
  RDH_HD M dead(V grad, M amplified) const { return S::and_greater(amplified, S::abs(grad), S::set(0)); }
};

// slope e / (1 + e)^2 grad with e = (1 + fq) 2^m: slope e in one rounding, as the sum of slope 2^m and its product with
// fq, and (1 + e)^2 = 1 + e (e + 2) in two.
template <class S>
struct QuotientGradient {
  using V = typename S::V;
  using M = typename S::M;
  using Real = typename S::Real;
  NegativeExponential<S> exponential;
  V slope, amplified_slope, over_slope, over_amplified_slope, near, largest;

  QuotientGradient(const AmplifierParams& p, const AmplifierConstants<Real>& f)
      : exponential(p.rate),
        slope(S::set(f.slope)),
        amplified_slope(S::set(f.amplified_slope)),
        over_slope(S::set(static_cast<Real>(1 / p.slope))),
        over_amplified_slope(S::set(static_cast<Real>(1 / (p.slope * p.alpha)))),
        near(S::set(NegativeExponential<S>::reach(p.rate, S::largest_shift / 2 - 2 - exponent(p)))),
        largest(S::set(NegativeExponential<S>::reach(p.rate, S::largest_shift))) {}

  // where |x| <= near
  RDH_HD V operator()(V grad, V x, M amplified) const {
    V fq, m;
    exponential(S::abs(x), fq, m);
    const V power = S::scale_normal(S::select(amplified, amplified_slope, slope), m);
    const V scaled = S::fma(fq, power, power);
    return S::mul(S::div(scaled, squared(S::mul(scaled, over(amplified)))), grad);
  }

  RDH_HD M far(V x) const { return S::greater(S::abs(x), near); }

  // Beyond, e alone would be subnormal although its product with the gradient need not be: with 2^m = a b the factor b
  // is applied last.
  RDH_HD V beyond(V grad, V x, M amplified) const {
    V fq, m, a, b;
    exponential(S::min(largest, S::abs(x)), fq, m);
    S::half_powers(m, a, b);
    const V power = S::mul(S::select(amplified, amplified_slope, slope), a);
    const V scaled = S::fma(fq, power, power);
    const V e = S::mul(S::mul(scaled, over(amplified)), b);
    return S::mul(S::mul(S::div(scaled, squared(e)), grad), b);
  }

 private:
  // how many binary orders a small slope takes from those of e
  static double exponent(const AmplifierParams& p) { return std::fmax(0, -std::floor(std::log2(p.slope))); }
  RDH_HD V over(M amplified) const { return S::select(amplified, over_amplified_slope, over_slope); }
  RDH_HD static V squared(V e) { return S::fma(e, S::add(e, S::set(2)), S::set(1)); }
};

template <class S>
struct IdentityGradient {
  using V = typename S::V;
  V alpha;

  IdentityGradient(const AmplifierParams& p, const AmplifierConstants<typename S::Real>&)
      : alpha(S::set(static_cast<typename S::Real>(p.alpha))) {}

  RDH_HD V operator()(V grad, V, typename S::M amplified) const {
    return S::select(amplified, S::mul(grad, alpha), grad);
  }
};
