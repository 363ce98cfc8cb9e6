// The vector form of SaturatingFormula, written once over the lanes S of a level; included by
// gradient_amplifier_kernel.cpp inside each target region, after simd_<level>.inl and simd_exp2.inl.

template <class S, bool Stream, class T>
inline void put(T* p, typename S::V v) {
  if constexpr (Stream) {
    S::stream(p, v);
  } else {
    S::store(p, v);
  }
}

// (num + num_lo) / (den + den_lo), the low parts being what rounding took from the high ones: half an ulp and a little.
template <class S>
inline typename S::V divide(typename S::V num, typename S::V num_lo, typename S::V den, typename S::V den_lo) {
  using V = typename S::V;
  const V reciprocal = S::div(S::set(1), den);
  const V quotient = S::mul(num, reciprocal);
  const V rest = S::fnma(quotient, den_lo, S::add(S::fnma(quotient, den, num), num_lo));
  return S::fma(rest, reciprocal, quotient);
}

template <class S>
struct Tanh {
  using V = typename S::V;
  NegativeExponential<S> exponential;

  // beyond 2^-64 the result is 1 in every type
  explicit Tanh(const AmplifierParams& p) : exponential(p.rate, 64) {}

  // e - 1 from its parts without cancellation, then (1 - e) / (1 + e) = -(e - 1) / (2 + (e - 1))
  V operator()(V x) const {
    V fq, minus_n;
    exponential.precise(S::abs(x), fq, minus_n);
    const V one = S::set(1), two = S::set(2), power = S::scale(one, minus_n);
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

  explicit Sigmoid(const AmplifierParams& p) : exponential(p.rate, S::largest_shift) {}

  // 1 / (1 + e) or e / (1 + e); the power of two comes last, so that a subnormal result is rounded once
  V operator()(V x) const {
    V fq, minus_n;
    exponential(S::abs(x), fq, minus_n);
    const V zero = S::set(0), one = S::set(1);
    const V mantissa = S::add(one, fq), mantissa_lo = S::sub(fq, S::sub(mantissa, one));
    const V e = S::scale(mantissa, minus_n);
    const V den = S::add(one, e), den_lo = S::sub(e, S::sub(den, one));
    const typename S::M negative = S::greater(zero, x);
    const V quotient =
        divide<S>(S::select(negative, mantissa, one), S::select(negative, mantissa_lo, zero), den, den_lo);
    return S::scale(quotient, S::select(negative, minus_n, zero));
  }
};

// Eq. 3: which bits are dead, and what their gradient is multiplied with.
template <class S>
struct Amplify {
  using V = typename S::V;
  using M = typename S::M;
  V threshold, dead_threshold;

  explicit Amplify(const SaturatingFormula<typename S::Real>& f)
      : threshold(S::set(f.threshold)), dead_threshold(S::set(f.dead_threshold)) {}

  M saturated(V x) const { return S::greater_equal(S::abs(x), threshold); }
  M dead(V grad, V x) const {
    return S::both(S::greater_equal(S::abs(x), dead_threshold), S::greater(S::flip_sign(grad, x), S::set(0)));
  }
};

template <class S>
struct SaturatingGradient {
  using V = typename S::V;
  NegativeExponential<S> exponential;
  V slope, amplified_slope;

  SaturatingGradient(const AmplifierParams& p, const SaturatingFormula<typename S::Real>& f)
      : exponential(p.rate, S::largest_shift), slope(S::set(f.slope)), amplified_slope(S::set(f.amplified_slope)) {}

  // slope e / (1 + e)^2 grad with e = mantissa a b: the last factor b is applied to the product with the gradient,
  // because e alone may be subnormal where the product is not. (1 + e)^2 = 1 + e (e + 2), one rounding instead of
  // three.
  V operator()(V grad, V x, typename S::M dead) const {
    V fq, minus_n, a, b;
    exponential(S::abs(x), fq, minus_n);
    S::half_powers(minus_n, a, b);
    const V one = S::set(1), most = S::mul(S::add(one, fq), a);
    const V e = S::mul(most, b);
    const V derivative =
        S::div(S::mul(most, S::select(dead, amplified_slope, slope)), S::fma(e, S::add(e, S::set(2)), one));
    return S::mul(S::mul(derivative, grad), b);
  }
};

template <class S>
struct IdentityGradient {
  using V = typename S::V;
  V alpha;

  IdentityGradient(const AmplifierParams& p, const SaturatingFormula<typename S::Real>&)
      : alpha(S::set(static_cast<typename S::Real>(p.alpha))) {}

  V operator()(V grad, V, typename S::M dead) const { return S::select(dead, S::mul(grad, alpha), grad); }
};

template <class S, class F, bool Stream, class T>
void map_blocks(const T* x, T* h, int64_t n, const F& f) {
  for (int64_t i = 0; i < n; i += S::width) put<S, Stream>(h + i, f(S::load(x + i)));
}

template <class S, class F, class T>
void forward(const void* x_, void* h_, int64_t n, const AmplifierParams& params, bool stream) {
  const F f(params);
  const T* x = static_cast<const T*>(x_);
  T* h = static_cast<T*>(h_);
  const int64_t whole = n - n % S::width;
  if (stream && aligned_for_streaming(h)) {
    map_blocks<S, F, true>(x, h, whole, f);
  } else {
    map_blocks<S, F, false>(x, h, whole, f);
  }
  if (whole < n) {
    T in[S::width], out[S::width];
    fill_nan(in);
    std::memcpy(in, x + whole, (n - whole) * sizeof(T));
    map_blocks<S, F, false>(in, out, S::width, f);
    std::memcpy(h + whole, out, (n - whole) * sizeof(T));
  }
}

template <class S, class G, bool Stream, bool Count, class T>
void amplify_blocks(const T* grad, const T* x, T* dx, int64_t n, const G& gradient, const Amplify<S>& amplify,
                    BitCounts& counts) {
  for (int64_t i = 0; i < n; i += S::width) {
    const typename S::V g = S::load(grad + i), v = S::load(x + i);
    const typename S::M dead = amplify.dead(g, v);
    if constexpr (Count) {
      counts.dead += S::count(dead);
      counts.saturated += S::count(amplify.saturated(v));
    }
    put<S, Stream>(dx + i, gradient(g, v, dead));
  }
}

template <class S, class G, bool Count, class T>
void backward_counting(const T* grad, const T* x, T* dx, int64_t n, const AmplifierParams& params, BitCounts& counts,
                       bool stream) {
  const SaturatingFormula<typename S::Real> formula = saturating_formula<typename S::Real>(params);
  const G gradient(params, formula);
  const Amplify<S> amplify(formula);
  const int64_t whole = n - n % S::width;
  if (stream && aligned_for_streaming(dx)) {
    amplify_blocks<S, G, true, Count>(grad, x, dx, whole, gradient, amplify, counts);
  } else {
    amplify_blocks<S, G, false, Count>(grad, x, dx, whole, gradient, amplify, counts);
  }
  if (whole < n) {
    T g[S::width], v[S::width], out[S::width];  // the lanes beyond n are NaN: neither saturated nor dead
    fill_nan(g);
    fill_nan(v);
    std::memcpy(g, grad + whole, (n - whole) * sizeof(T));
    std::memcpy(v, x + whole, (n - whole) * sizeof(T));
    amplify_blocks<S, G, false, Count>(g, v, out, S::width, gradient, amplify, counts);
    std::memcpy(dx + whole, out, (n - whole) * sizeof(T));
  }
}

template <class S, class G, class T>
void backward(const void* grad, const void* x, void* dx, int64_t n, const AmplifierParams& params, BitCounts* counts,
              bool stream) {
  const T *g = static_cast<const T*>(grad), *v = static_cast<const T*>(x);
  BitCounts none{0, 0};
  if (counts != nullptr) {
    backward_counting<S, G, true>(g, v, static_cast<T*>(dx), n, params, *counts, stream);
  } else {
    backward_counting<S, G, false>(g, v, static_cast<T*>(dx), n, params, none, stream);
  }
}

template <class S, class T>
constexpr Kernels kernels_for() {
  return {forward<S, Tanh<S>, T>, forward<S, Sigmoid<S>, T>, backward<S, SaturatingGradient<S>, T>,
          backward<S, IdentityGradient<S>, T>};
}

Kernels kernels(Element element) {
  switch (element) {
    case Element::f64:
      return kernels_for<F64, double>();
    case Element::bf16:
      return kernels_for<F32, BFloat16>();
    case Element::f16:
      return kernels_for<F32, Float16>();
    default:
      return kernels_for<F32, float>();
  }
}
