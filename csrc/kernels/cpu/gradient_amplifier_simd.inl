// The loops over vectors, and formulas by tables, written once over the lanes S of a level; included by
// gradient_amplifier_kernel.cpp inside each target region, after simd_<level>.inl and simd_exp2.inl.

#include "kernels/gradient_amplifier_formula.inl"

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

  RDH_HD V operator()(V x) const {
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

// The quotient by tables: more instructions, but half the latency, which is what bounds the other one.
template <class S>
struct TableGradient : QuotientGradient<S> {
  using V = typename S::V;
  using Table = decltype(S::table(nullptr));
  V alpha;
  Table rows[7];

  TableGradient(const AmplifierParams& p, const AmplifierConstants<typename S::Real>& f)
      : QuotientGradient<S>(p, f), alpha(S::set(static_cast<float>(p.alpha))) {
    for (int i = 0; i < 7; ++i) rows[i] = S::table(tables::derivative[i], f.slope);
  }

  RDH_HD V operator()(V grad, V x, typename S::M amplified) const {
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
  const AmplifierConstants<typename S::Real> formula = amplifier_constants<typename S::Real>(params);
  const G gradient(params, formula);
  const typename S::V g = S::load(grad), v = S::load(x);
  const typename S::M amplified = Amplify<S>(formula).amplified(g, v);
  S::store(dx, S::select(gradient.far(v), gradient.beyond(g, v, amplified), gradient(g, v, amplified)));
}

template <class S, class G, bool Stream, bool Count, class T>
void amplify_blocks(const T* grad, const T* x, T* dx, int64_t n, const AmplifierParams& params, BitCounts& counts) {
  const AmplifierConstants<typename S::Real> formula = amplifier_constants<typename S::Real>(params);
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
