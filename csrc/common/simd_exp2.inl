// exp(-rate |x|) over any lane type S (F32 or F64 of simd_*.inl, Twice of them, or One of lane_one.h). Included inside
// a target region, after them; needs host_device.h.
//
// With -rate log2(e) |x| = m + f, m integral, f in [-1/2, 1/2], exp(-rate |x|) = 2^m 2^f. m comes from adding and
// subtracting a large number, which rounds; f from a fused multiply-add that subtracts m exactly, with the constant in
// two parts, so the error of f stays near 2^-26 (2^-55) however large |x| is.

template <class Real>
struct Exp2Coefficients;

// minimax of (2^f - 1) / f - ln 2, divided by f; highest power first; the last one is ln 2. Relative error of
// 2^f: 8.8e-9
template <>
struct Exp2Coefficients<float> {
  static constexpr float c[] = {0.00015444966265931726f, 0.0013381398748606443f, 0.009618103504180908f,
                                0.055503807961940765f,   0.24022650718688965f,   0.6931471824645996f};
  static constexpr float rounder = 12582912.0f;  // 1.5 2^23: its unit in the last place is 1
};

// relative error 2.0e-17
template <>
struct Exp2Coefficients<double> {
  static constexpr double c[] = {2.5725173994577337e-11, 4.4549794711760616e-10, 7.0548999096177775e-09,
                                 1.0178062351388103e-07, 1.3215486802980713e-06, 1.525273382999124e-05,
                                 0.00015403530393375868, 0.0013333558146416842,  0.009618129107628479,
                                 0.0555041086648216,     0.24022650695910072,    0.6931471805599453};
  static constexpr double rounder = 6755399441055744.0;  // 1.5 2^52
};

template <class S>
struct NegativeExponential {
  using V = typename S::V;
  using Real = typename S::Real;
  V k_hi, k_lo;  // -rate log2(e)

  explicit NegativeExponential(double rate) {
    const double k = rate * -1.4426950408889634;
    const Real hi = static_cast<Real>(k);
    // for double the low part of the constant: log2(e) - (double)log2(e) = 2.0355273740931033e-17
    const double lo = sizeof(Real) == 8 ? __builtin_fma(rate, -1.4426950408889634, -k) - rate * 2.0355273740931033e-17
                                        : k - static_cast<double>(hi);
    k_hi = S::set(hi);
    k_lo = S::set(static_cast<Real>(lo));
  }

  // The |x| at which -m has grown to n: the formulas below hold up to n = 2^20, and their callers to much less.
  static Real reach(double rate, double n) {
    const double cut = n / (rate * 1.4426950408889634);
    const double top = sizeof(Real) == 8 ? 1.7e308 : 3.4e38;
    return static_cast<Real>(cut < top ? cut : top);
  }

  // exp(-rate magnitude) = (1 + fq) 2^m, fq in [-0.3, 0.5] within 1.2 ulp; a NaN stays one
  RDH_HD void operator()(V magnitude, V& fq, V& m) const {
    V f, f_lo;
    long_parts(magnitude, f, f_lo, m);
    const V correction = S::mul(f_lo, S::set(ln2));
    const V q = S::fma(residue<>(f), f, S::set(ln2));
    fq = S::fma(f, q, S::fma(correction, S::mul(f, q), correction));
  }

  // rounder + m, in whose lowest bits m stands; and f and m
  RDH_HD V rounded(V magnitude) const { return S::fma(magnitude, k_hi, S::set(C::rounder)); }
  RDH_HD void parts(V magnitude, V rounded, V& f, V& m) const {
    m = S::sub(rounded, S::set(C::rounder));
    f = S::fma(magnitude, k_lo, S::fms(magnitude, k_hi, m));
  }

  // exp(-rate magnitude) = (1 + fq) 2^m with fq within 0.7 ulp: what expm1 needs near 0. f and f ln 2 are kept in two
  // parts; 2^(f + f_lo) = 2^f + f_lo ln 2 2^f.
  RDH_HD void precise(V magnitude, V& fq, V& m) const {
    V f, f_lo;
    long_parts(magnitude, f, f_lo, m);
    const V correction = S::mul(f_lo, S::set(ln2));
    const V first = S::mul(f, S::set(ln2));
    const V rest = S::fma(S::mul(f, residue<>(f)), f, S::fms(f, S::set(ln2), first));
    fq = S::add(first, S::add(rest, S::fma(correction, S::add(first, rest), correction)));
  }

 private:
  using C = Exp2Coefficients<Real>;
  static constexpr int terms = sizeof(C::c) / sizeof(C::c[0]);
  static constexpr Real ln2 = C::c[terms - 1];

  // m, and f in two parts
  RDH_HD void long_parts(V magnitude, V& f, V& f_lo, V& m) const {
    m = S::sub(rounded(magnitude), S::set(C::rounder));
    const V u = S::mul(magnitude, k_hi);
    f_lo = S::fma(magnitude, k_lo, S::fms(magnitude, k_hi, u));
    f = S::sub(u, m);
  }
  // 2^f = 1 + f (ln 2 + f residue): Horner's rule, without a loop, which device code could not take constants from
  template <int I = terms - 2>
  RDH_HD static V residue(V f) {
    constexpr Real coefficient = C::c[I];
    if constexpr (I == 0) {
      return S::set(coefficient);
    } else {
      return S::fma(residue<I - 1>(f), f, S::set(coefficient));
    }
  }
};
