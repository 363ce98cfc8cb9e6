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

// Asks for the lines a page ahead of the S::width elements at p. The hardware's own prefetcher stops at the end of
// every page, and up to the size of the last-level cache those stops cost a seventh of the forward.
template <class S, class T>
inline void prefetch_ahead(const T* p) {
  const uintptr_t ahead = reinterpret_cast<uintptr_t>(p) + 4096;  // an integer: it may lie behind the end
  for (size_t line = 0; line < S::width * sizeof(T); line += 64) {
    __builtin_prefetch(reinterpret_cast<const void*>(ahead + line));
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
struct ExponentialTanh {
  using V = typename S::V;
  NegativeExponential<S> exponential;
  V largest;  // beyond 2^-64 the result is 1 in every type

  explicit ExponentialTanh(const AmplifierParams& p)
      : exponential(p.rate), largest(S::set(NegativeExponential<S>::reach(p.rate, 64))) {}

  // e - 1 from its parts without cancellation, then (1 - e) / (1 + e) = -(e - 1) / (2 + (e - 1))
  RDH_ALWAYS_INLINE V operator()(V x) const {
    V fq, m;
    exponential.precise(S::min(largest, S::abs(x)), fq, m);
    const V one = S::set(1), two = S::set(2), power = S::scale_normal(one, m);
    const V whole = S::sub(power, one);
    const V em1 = S::fma(fq, power, whole), em1_lo = S::fma(fq, power, S::sub(whole, em1));
    const V den = S::add(two, em1), den_lo = S::add(S::sub(em1, S::sub(den, two)), em1_lo);
    return S::with_sign(divide<S>(S::neg(em1), S::neg(em1_lo), den, den_lo), x);
  }
};

// By tables (gradient_amplifier_tables.py): a third of the instructions, and no division.
template <class S>
struct TableTanh {
  using V = typename S::V;
  using Table = decltype(S::table(nullptr));
  V largest, beta;
  Table rows[7];

  explicit TableTanh(const AmplifierParams& p) {
    const double b = p.rate / 2, cut = tables::tanh_largest / b;
    beta = S::set(static_cast<float>(b));
    largest = S::set(static_cast<float>(cut < 3.4e38 ? cut : 3.4e38));
    for (int i = 0; i < 7; ++i) rows[i] = S::table(tables::tanh[i]);
  }

  RDH_ALWAYS_INLINE V operator()(V x) const {
    const V magnitude = S::min(largest, S::abs(x));
    const auto index = S::quarters(S::mul(magnitude, beta), tables::tanh_first);
    const V d = S::fms(magnitude, beta, S::lookup(rows[0], index));
    V h = S::lookup(rows[6], index);
    for (int i = 5; i > 0; --i) h = S::fma(h, d, S::lookup(rows[i], index));
    return S::with_sign(h, x);
  }
};

template <class S>
using Tanh = std::conditional_t<S::has_lookup, TableTanh<S>, ExponentialTanh<S>>;

template <class S>
struct Sigmoid {
  using V = typename S::V;
  NegativeExponential<S> exponential;
  V largest;

  explicit Sigmoid(const AmplifierParams& p)
      : exponential(p.rate), largest(S::set(NegativeExponential<S>::reach(p.rate, S::largest_shift))) {}

  // 1 / (1 + e) or e / (1 + e); the power of two comes last, so that a subnormal result is rounded once
  RDH_ALWAYS_INLINE V operator()(V x) const {
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

  explicit Amplify(const SaturatingFormula<typename S::Real>& f)
      : threshold(S::set(f.threshold)), dead_threshold(S::set(f.dead_threshold)) {}

  M saturated(V x) const { return S::greater_equal(S::abs(x), threshold); }
  // where alpha applies: also to a zero gradient, which it does not change
  M amplified(V grad, V x) const { return S::greater_equal(S::flip_sign(x, grad), dead_threshold); }
  M dead(V grad, M amplified) const { return S::and_greater(amplified, S::abs(grad), S::set(0)); }
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

  QuotientGradient(const AmplifierParams& p, const SaturatingFormula<Real>& f)
      : exponential(p.rate),
        slope(S::set(f.slope)),
        amplified_slope(S::set(f.amplified_slope)),
        over_slope(S::set(static_cast<Real>(1 / p.slope))),
        over_amplified_slope(S::set(static_cast<Real>(1 / (p.slope * p.alpha)))),
        near(S::set(NegativeExponential<S>::reach(p.rate, S::largest_shift / 2 - 2 - exponent(p)))),
        largest(S::set(NegativeExponential<S>::reach(p.rate, S::largest_shift))) {}

  // where |x| <= near
  RDH_ALWAYS_INLINE V operator()(V grad, V x, M amplified) const {
    V fq, m;
    exponential(S::abs(x), fq, m);
    const V power = S::scale_normal(S::select(amplified, amplified_slope, slope), m);
    const V scaled = S::fma(fq, power, power);
    return S::mul(S::div(scaled, squared(S::mul(scaled, over(amplified)))), grad);
  }

  RDH_ALWAYS_INLINE M far(V x) const { return S::greater(S::abs(x), near); }

  // Beyond, e alone would be subnormal although its product with the gradient need not be: with 2^m = a b the factor b
  // is applied last.
  RDH_ALWAYS_INLINE V beyond(V grad, V x, M amplified) const {
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
  V over(M amplified) const { return S::select(amplified, over_amplified_slope, over_slope); }
  static V squared(V e) { return S::fma(e, S::add(e, S::set(2)), S::set(1)); }
};

// The quotient by tables: more instructions, but half the latency, which is what bounds the other one.
template <class S>
struct TableGradient : QuotientGradient<S> {
  using V = typename S::V;
  using Table = decltype(S::table(nullptr));
  V alpha;
  Table rows[7];

  TableGradient(const AmplifierParams& p, const SaturatingFormula<typename S::Real>& f)
      : QuotientGradient<S>(p, f), alpha(S::set(static_cast<float>(p.alpha))) {
    for (int i = 0; i < 7; ++i) rows[i] = S::table(tables::derivative[i], f.slope);
  }

  RDH_ALWAYS_INLINE V operator()(V grad, V x, typename S::M amplified) const {
    const V magnitude = S::abs(x), rounded = this->exponential.rounded(magnitude);
    const auto index = S::bits(rounded, rounder_bits - 31);
    V f, m;
    this->exponential.parts(magnitude, rounded, f, m);
    V derivative = S::lookup(rows[6], index);
    for (int i = 5; i >= 0; --i) derivative = S::fma(derivative, f, S::lookup(rows[i], index));
    return S::mul(S::scale_normal(S::mul_where(amplified, derivative, alpha), m), grad);
  }

 private:
  static constexpr int rounder_bits = 0x4B400000;  // of Exp2Coefficients<float>::rounder
};

template <class S>
using SaturatingGradient = std::conditional_t<S::has_lookup, TableGradient<S>, QuotientGradient<S>>;

template <class S>
struct IdentityGradient {
  using V = typename S::V;
  V alpha;

  IdentityGradient(const AmplifierParams& p, const SaturatingFormula<typename S::Real>&)
      : alpha(S::set(static_cast<typename S::Real>(p.alpha))) {}

  V operator()(V grad, V, typename S::M amplified) const { return S::select(amplified, S::mul(grad, alpha), grad); }
};

template <class S, class F, bool Stream, class T>
void map_blocks(const T* x, T* h, int64_t n, const F& f) {
  for (int64_t i = 0; i < n; i += S::width) {
    prefetch_ahead<S>(x + i);
    put<S, Stream>(h + i, f(S::load(x + i)));
  }
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

// One vector with a far element in it: every element keeps its own formula, whatever its neighbours are. Not inlined,
// taking pointers and making its own constants, so that those of the loop that hardly ever calls it stay in registers.
template <class S, class G, class T>
__attribute__((noinline, cold)) void amplify_far(const T* grad, const T* x, T* dx, const AmplifierParams& params) {
  const SaturatingFormula<typename S::Real> formula = saturating_formula<typename S::Real>(params);
  const G gradient(params, formula);
  const typename S::V g = S::load(grad), v = S::load(x);
  const typename S::M amplified = Amplify<S>(formula).amplified(g, v);
  S::store(dx, S::select(gradient.far(v), gradient.beyond(g, v, amplified), gradient(g, v, amplified)));
}

template <class S, class G, bool Stream, bool Count, class T>
void amplify_blocks(const T* grad, const T* x, T* dx, int64_t n, const AmplifierParams& params, BitCounts& counts) {
  const SaturatingFormula<typename S::Real> formula = saturating_formula<typename S::Real>(params);
  const G gradient(params, formula);
  const Amplify<S> amplify(formula);
  BitCounts sums{0, 0};
  for (int64_t i = 0; i < n; i += S::width) {
    prefetch_ahead<S>(grad + i);
    prefetch_ahead<S>(x + i);
    const typename S::V g = S::load(grad + i), v = S::load(x + i);
    const typename S::M amplified = amplify.amplified(g, v);
    if constexpr (Count) {
      sums.dead += S::count(amplify.dead(g, amplified));
      sums.saturated += S::count(amplify.saturated(v));
    }
    if constexpr (std::is_same_v<G, SaturatingGradient<S>>) {
      if (__builtin_expect(S::any(gradient.far(v)), 0)) {
        amplify_far<S, G>(grad + i, x + i, dx + i, params);
        continue;
      }
    }
    put<S, Stream>(dx + i, gradient(g, v, amplified));
  }
  counts.dead += sums.dead;
  counts.saturated += sums.saturated;
}

template <class S, class G, bool Count, class T>
void backward_counting(const T* grad, const T* x, T* dx, int64_t n, const AmplifierParams& params, BitCounts& counts,
                       bool stream) {
  const int64_t whole = n - n % S::width;
  if (stream && aligned_for_streaming(dx)) {
    amplify_blocks<S, G, true, Count>(grad, x, dx, whole, params, counts);
  } else {
    amplify_blocks<S, G, false, Count>(grad, x, dx, whole, params, counts);
  }
  if (whole < n) {
    T g[S::width], v[S::width], out[S::width];  // the lanes beyond n are NaN: neither saturated nor dead
    fill_nan(g);
    fill_nan(v);
    std::memcpy(g, grad + whole, (n - whole) * sizeof(T));
    std::memcpy(v, x + whole, (n - whole) * sizeof(T));
    amplify_blocks<S, G, false, Count>(g, v, out, S::width, params, counts);
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
      return kernels_for<Twice<F64>, double>();
    case Element::bf16:
      return kernels_for<Twice<F32>, BFloat16>();
    case Element::f16:
      return kernels_for<Twice<F32>, Float16>();
    default:
      return kernels_for<Twice<F32>, float>();
  }
}
