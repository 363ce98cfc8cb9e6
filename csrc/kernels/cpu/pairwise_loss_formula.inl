// What a pair and a bit contribute to the pairwise loss, over the lanes S of a level, and the loop that does it to a
// tile of pairs; included inside a namespace after the lanes, inside a target region where they need one, and after
// pairwise_loss_problem.h.
//
// Numerics: e = exp(-|z|) and the sigmoid within 3 ulp, log1p within 3 ulp of its value for any q in [0, 2^100], also
// where q is tiny. Beyond |z| = 86.6 (float; 707 for double) e is held at 2^-125 (2^-1021). Where z is not a number
// results are not defined: whoever lets one in says so by other means.

template <class Real>
struct PairCoefficients;

// decay: minimax of exp(-r) = 1 + r (c1 + r (c2 + ...)), |r| <= ln(2) / 2, highest first; relative error 2.6e-9.
// ln2_hi has so few bits that n ln2_hi is exact. atanh: of 2 s + s^3 (2/3 + 2/5 s^2 + ...), |s| <= 0.172, 1.2e-9.
template <>
struct PairCoefficients<float> {
  static constexpr float decay[] = {0.0014061277f, -0.0083790207f, 0.041664776f, -0.16666365f, 0.50000004f, -1.0f};
  static constexpr float atanh[] = {2.0f / 9, 2.0f / 7, 2.0f / 5, 2.0f / 3};
  static constexpr float log2_e = 1.44269504f, ln2 = 0.693147181f, ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;
  static constexpr float rounder = 12582912.0f;  // 1.5 2^23: its unit in the last place is 1
  static constexpr float largest = 86.6f;
};

// 1.8e-17; 2e-18
template <>
struct PairCoefficients<double> {
  static constexpr double decay[] = {-2.2981315003611426e-08,
                                     2.7626310354315888e-07,
                                     -2.7564256324346080e-06,
                                     2.4801504477923071e-05,
                                     -0.00019841261488039253,
                                     0.0013888888932366860,
                                     -0.0083333333377180960,
                                     0.041666666666573561,
                                     -0.16666666666657295,
                                     0.50000000000000056,
                                     -1.0};
  static constexpr double atanh[] = {2.0 / 23, 2.0 / 21, 2.0 / 19, 2.0 / 17, 2.0 / 15, 2.0 / 13,
                                     2.0 / 11, 2.0 / 9,  2.0 / 7,  2.0 / 5,  2.0 / 3};
  static constexpr double log2_e = 1.4426950408889634, ln2 = 0.6931471805599453, ln2_hi = 6.93147180369123816490e-01,
                          ln2_lo = 1.90821492927058770002e-10;
  static constexpr double rounder = 6755399441055744.0;  // 1.5 2^52
  static constexpr double largest = 707.0;
};

template <class S>
struct PairFormula {
  using V = typename S::V;
  using Real = typename S::Real;
  using C = PairCoefficients<Real>;

  // For z, which is theta, with its sign turned where the pair is similar: e = exp(-|z|); max(z, 0); sigmoid(z).
  RDH_HD static void pair(V z, V& e, V& positive, V& sigmoid) {
    const V zero = S::set(0), one = S::set(1);
    V r, n;
    reduce(z, r, n);
    e = S::scale_normal(S::fma(decay_series<>(r), r, one), n);
    positive = S::max(z, zero);
    sigmoid = S::mul_where(S::greater(zero, z), S::reciprocal(S::add(one, e)), e);
  }

  // The product less one of 1 + e over some pairs: what is small is kept.
  RDH_HD static V times_one_plus(V product_less_one, V e) {
    return S::fma(product_less_one, e, S::add(product_less_one, e));
  }

  // log(1 + q), q >= 0
  RDH_HD static V log1p(V q) {
    const V one = S::set(1), u = S::add(one, q);
    const V lost = S::select(S::greater_equal(q, one), S::sub(one, S::sub(u, q)), S::sub(q, S::sub(u, one)));
    V k, m;
    S::split(u, k, m);
    const V f = S::sub(m, one), s = S::mul(f, S::reciprocal(S::add(one, m)));
    const V s2 = S::mul(s, s);
    const V low = S::fma(lost, S::reciprocal(u), S::mul(k, S::set(C::ln2_lo)));
    const V log_m = S::fma(S::mul(s, s2), atanh_series<>(s2), S::add(s, s));
    return S::fma(k, S::set(C::ln2_hi), S::add(log_m, low));
  }

  // log cosh(d) and its derivative tanh(d). With x = (1 - e)^2 / 2 e near 0, where log cosh(d) = log(1 + x) is d^2 / 2.
  RDH_HD static void log_cosh(V d, V& value, V& tanh) {
    const V one = S::set(1), two = S::set(2), magnitude = S::abs(d);
    V r, n;
    reduce(d, r, n);
    const V rest = S::mul(decay_series<>(r), r), power = S::scale_normal(one, n);
    const V e = S::scale_normal(S::add(one, rest), n);
    const V em1 = S::fma(rest, power, S::sub(power, one)), e2 = S::mul(e, e);
    const V small = S::div(S::mul(em1, em1), S::mul(two, e));
    const auto is_far = S::greater_equal(magnitude, one);
    const V log = log1p(S::select(is_far, e2, small));
    value = S::select(is_far, S::add(S::sub(magnitude, S::set(C::ln2)), log), log);
    tanh = S::with_sign(S::div(S::mul(S::neg(em1), S::add(one, e)), S::add(one, e2)), d);
  }

 private:
  // exp(-|x|) = exp(-r) 2^n, |r| <= ln(2) / 2. Rounded once, n ln 2 needs no second part.
  RDH_HD static void reduce(V x, V& r, V& n) {
    const V a = S::at_most(S::set(C::largest), x);
    n = S::sub(S::fma(a, S::set(-C::log2_e), S::set(C::rounder)), S::set(C::rounder));
    if constexpr (S::fused) {
      r = S::fma(n, S::set(C::ln2), a);
    } else {
      r = S::fma(n, S::set(C::ln2_lo), S::fma(n, S::set(C::ln2_hi), a));
    }
  }

  // Horner's rule
  static constexpr int decay_terms = sizeof(C::decay) / sizeof(Real), atanh_terms = sizeof(C::atanh) / sizeof(Real);
  template <int I = decay_terms - 1>
  RDH_HD static V decay_series(V r) {
    constexpr Real coefficient = C::decay[I];
    if constexpr (I == 0) {
      return S::set(coefficient);
    } else {
      return S::fma(decay_series<I - 1>(r), r, S::set(coefficient));
    }
  }
  template <int I = atanh_terms - 1>
  RDH_HD static V atanh_series(V s2) {
    constexpr Real coefficient = C::atanh[I];
    if constexpr (I == 0) {
      return S::set(coefficient);
    } else {
      return S::fma(atanh_series<I - 1>(s2), s2, S::set(coefficient));
    }
  }
};

// Lanes [vector L::width, ...) of theta, `n` columns: theta becomes the derivative, and the values are added to those
// of the rows, similar pairs first, the others a panel behind.
template <class L, bool Weighted>
void evaluate_pairs(typename L::Real* theta, const uint64_t* words, int vector, int64_t n,
                    const typename L::Real (&weights)[2], double* values) {
  using V = typename L::V;
  using Formula = PairFormula<L>;
  V linear[2] = {L::set(0), L::set(0)}, product[2] = {L::set(0), L::set(0)};
  for (int64_t j = 0; j < n; ++j) {
    const auto similar = L::choice(words[j], vector);
    V e, positive, sigmoid;
    Formula::pair(L::flip(similar, L::load(theta + j * panel)), e, positive, sigmoid);
    if constexpr (Weighted) {
      const auto dissimilar = L::choice(~words[j], vector);
      product[1] = Formula::times_one_plus(product[1], L::keep(similar, e));
      linear[1] = L::add(linear[1], L::keep(similar, positive));
      product[0] = Formula::times_one_plus(product[0], L::keep(dissimilar, e));
      linear[0] = L::add(linear[0], L::keep(dissimilar, positive));
      sigmoid = L::mul(sigmoid, L::pick(similar, L::set(weights[1]), L::set(weights[0])));
    } else {
      product[0] = Formula::times_one_plus(product[0], e);
      linear[0] = L::add(linear[0], positive);
    }
    L::store(theta + j * panel, L::flip(similar, sigmoid));
  }
  if constexpr (Weighted) L::add_to(values, L::add(linear[1], Formula::log1p(product[1])));
  L::add_to(values + panel, L::add(linear[0], Formula::log1p(product[0])));
}
