// exp(-rate |x|) over any lane type S (F32 or F64 of simd_*.inl). Included inside a target region, after them.
//
// With u = rate log2(e) |x| = n + (rounded part), exp(-rate |x|) = 2^-n 2^f, f in [-1/2, 1/2]. u is carried in two
// parts, the rounded product and its exact error, so the error of f stays near 2^-26 (2^-55) however large |x| is. 2^f
// = 1 + fq with fq accurate to about one rounding: what expm1 needs near 0.

template <class S>
struct Exp2Coefficients;

// minimax of (2^f - 1) / f - ln 2, divided by f; highest power first; the last one is ln 2. Relative error of
// 2^f: 8.8e-9
template <>
struct Exp2Coefficients<F32> {
  static constexpr float c[] = {0.00015444966265931726f, 0.0013381398748606443f, 0.009618103504180908f,
                                0.055503807961940765f,   0.24022650718688965f,   0.6931471824645996f};
};

// relative error 2.0e-17
template <>
struct Exp2Coefficients<F64> {
  static constexpr double c[] = {2.5725173994577337e-11, 4.4549794711760616e-10, 7.0548999096177775e-09,
                                 1.0178062351388103e-07, 1.3215486802980713e-06, 1.525273382999124e-05,
                                 0.00015403530393375868, 0.0013333558146416842,  0.009618129107628479,
                                 0.0555041086648216,     0.24022650695910072,    0.6931471805599453};
};

template <class S>
struct NegativeExponential {
  using V = typename S::V;
  using Real = typename S::Real;
  V k_hi, k_lo, largest;

  // `largest_n` bounds n: |x| is cut where the exponential has become irrelevant
  NegativeExponential(double rate, double largest_n) {
    const double k = rate * 1.4426950408889634;
    const Real hi = static_cast<Real>(k);
    // for double the low part of the constant: log2(e) - (double)log2(e) = 2.0355273740931033e-17
    const double lo = sizeof(Real) == 8 ? __builtin_fma(rate, 1.4426950408889634, -k) + rate * 2.0355273740931033e-17
                                        : k - static_cast<double>(hi);
    k_hi = S::set(hi);
    k_lo = S::set(static_cast<Real>(lo));
    const double cut = largest_n / k;
    const double top = sizeof(Real) == 8 ? 1.7e308 : 3.4e38;
    largest = S::set(static_cast<Real>(cut < top ? cut : top));
  }

  // exp(-rate magnitude) = (1 + fq) 2^minus_n; a NaN stays one
  void operator()(V magnitude, V& fq, V& minus_n) const {
    V f, r, correction;
    reduce(magnitude, f, r, correction, minus_n);
    const V q = S::fma(r, f, S::set(ln2));
    fq = S::fma(f, q, S::fma(correction, S::mul(f, q), correction));
  }

  // The same with an error of fq near 0.7 ulp instead of 1.2, for four operations more: f ln 2 is kept in two parts.
  void precise(V magnitude, V& fq, V& minus_n) const {
    V f, r, correction;
    reduce(magnitude, f, r, correction, minus_n);
    const V first = S::mul(f, S::set(ln2));
    const V rest = S::fma(S::mul(f, r), f, S::fms(f, S::set(ln2), first));
    fq = S::add(first, S::add(rest, S::fma(correction, S::add(first, rest), correction)));
  }

 private:
  using C = Exp2Coefficients<S>;
  static constexpr int terms = sizeof(C::c) / sizeof(C::c[0]);
  static constexpr Real ln2 = C::c[terms - 1];

  // 2^(f - u_lo) = 2^f - u_lo ln 2 2^f with 2^f = 1 + f (ln 2 + f r); correction = -u_lo ln 2
  void reduce(V magnitude, V& f, V& r, V& correction, V& minus_n) const {
    magnitude = S::min(largest, magnitude);
    const V u = S::mul(magnitude, k_hi);
    const V u_lo = S::fma(magnitude, k_lo, S::fms(magnitude, k_hi, u));
    const V n = S::round(u);
    f = S::sub(n, u);
    r = S::set(C::c[0]);
    for (int i = 1; i < terms - 1; ++i) r = S::fma(r, f, S::set(C::c[i]));
    correction = S::mul(u_lo, S::set(-ln2));
    minus_n = S::neg(n);
  }
};
