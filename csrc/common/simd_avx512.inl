// AVX-512 lanes. Included inside a target region and a namespace of that level, after all library headers.
// The same interface as simd_avx2.inl: algorithms are written once over it.

struct F32 {
  using Real = float;
  using V = __m512;
  using M = __mmask16;
  static constexpr int width = 16, registers = 32;
  static constexpr bool fused = true;        // fma rounds once
  static constexpr int largest_shift = 252;  // of scale and half_powers
  static constexpr bool has_lookup = true;   // table, lookup, bits, quarters

  static V set(float v) { return _mm512_set1_ps(v); }
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static V load(const BFloat16* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static V load(const Float16* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static void store(float* p, V v) { _mm512_storeu_ps(p, v); }
  static void store(BFloat16* p, V v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16(v)); }
  static void store(Float16* p, V v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_f16(v)); }
  static void stream(float* p, V v) { _mm512_stream_ps(p, v); }
  static void stream(BFloat16* p, V v) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), to_bf16(v)); }
  static void stream(Float16* p, V v) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), to_f16(v)); }

  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V div(V a, V b) { return _mm512_div_ps(a, b); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }    // a b + c
  static V fms(V a, V b, V c) { return _mm512_fmsub_ps(a, b, c); }    // a b - c
  static V fnma(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
  static V min(V a, V b) { return _mm512_min_ps(a, b); }              // b where either is NaN
  static V max(V a, V b) { return _mm512_max_ps(a, b); }
  static V at_most(V largest, V a) { return _mm512_range_ps(largest, a, 0b1010); }  // |a|, unless it is NaN
  static V reciprocal(V a) {                                                        // within 1 ulp
    const V r = _mm512_rcp14_ps(a);
    return fma(r, fnma(a, r, set(1.0f)), r);
  }
  static V abs(V a) { return _mm512_abs_ps(a); }
  static V neg(V a) { return flip_sign(a, _mm512_set1_ps(-0.0f)); }
  // magnitude >= 0 with the sign of s; a with its sign flipped where s is negative. Truth tables over (a, s, sign bit).
  static V with_sign(V magnitude, V s) { return bitwise<0xF8>(magnitude, s); }
  static V flip_sign(V a, V s) { return bitwise<0x78>(a, s); }

  static M greater_equal(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  static M greater(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  static M and_greater(M m, V a, V b) { return _mm512_mask_cmp_ps_mask(m, a, b, _CMP_GT_OQ); }
  static M either(M a, M b) { return _kor_mask16(a, b); }
  static bool any(M m) { return m != 0; }
  static V select(M m, V yes, V no) { return _mm512_mask_blend_ps(m, no, yes); }
  static V mul_where(M m, V a, V b) { return _mm512_mask_mul_ps(a, m, a, b); }  // a b or a
  static int count(M m) { return __builtin_popcount(m); }

  // lanes that are chosen by the bits of a word, which has one for each lane of several vectors
  using Choice = __mmask16;
  static Choice choice(uint64_t word, int vector) { return static_cast<Choice>(word >> (16 * vector)); }
  static V flip(Choice c, V v) {  // the sign, where chosen
    const __m512i bits = _mm512_castps_si512(v);
    return _mm512_castsi512_ps(_mm512_mask_xor_epi32(bits, c, bits, _mm512_set1_epi32(static_cast<int>(0x80000000u))));
  }
  static V keep(Choice c, V v) { return _mm512_maskz_mov_ps(c, v); }  // or 0
  static V pick(Choice c, V yes, V no) { return _mm512_mask_blend_ps(c, no, yes); }

  // u = 2^k m, m in [sqrt(1/2), sqrt(2)), for normal u > 0
  static void split(V u, V& k, V& m) {
    k = _mm512_getexp_ps(mul(u, set(1.41421356f)));
    m = _mm512_scalef_ps(u, neg(k));
  }
  static void add_to(double* sums, V v) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v)),
                  high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    _mm512_storeu_pd(sums, _mm512_add_pd(_mm512_loadu_pd(sums), low));
    _mm512_storeu_pd(sums + 8, _mm512_add_pd(_mm512_loadu_pd(sums + 8), high));
  }

  static V scale(V v, V n) { return _mm512_scalef_ps(v, n); }  // v 2^n, n integral
  static V scale_normal(V v, V n) { return scale(v, n); }
  // a b = 2^n for integral n in [-252, 0], both normal
  static void half_powers(V n, V& a, V& b) {
    const V one = _mm512_set1_ps(1.0f);
    const V half = round(mul(n, _mm512_set1_ps(0.5f)));
    a = scale(one, half);
    b = scale(one, sub(n, half));
  }

  // 32 floats to look up in: lookup uses the low five bits of an index
  struct Table {
    __m512 low, high;
  };
  static Table table(const float* row) { return {_mm512_loadu_ps(row), _mm512_loadu_ps(row + 16)}; }
  static Table table(const float* row, float factor) {
    const Table t = table(row);
    return {mul(t.low, set(factor)), mul(t.high, set(factor))};
  }
  static V lookup(const Table& t, __m512i index) { return _mm512_permutex2var_ps(t.low, index, t.high); }
  // indices from the bits of z > 0, at least `first`: all bits, or the quarter of the octave, counted from 2^-127
  static __m512i bits(V z, int first) { return _mm512_max_epi32(_mm512_castps_si512(z), _mm512_set1_epi32(first)); }
  static __m512i quarters(V z, int first) {
    return _mm512_max_epi32(_mm512_srli_epi32(_mm512_castps_si512(z), 21), _mm512_set1_epi32(first));
  }

 private:
  static V round(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  template <int Truth>
  static V bitwise(V a, V s) {
    const __m512i sign = _mm512_set1_epi32(static_cast<int>(0x80000000u));
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(a), _mm512_castps_si512(s), sign, Truth));
  }
  // round to nearest even; a NaN becomes the quiet NaN
  static __m256i to_bf16(V v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    rounded = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7FC00000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
  }
  static __m256i to_f16(V v) { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
};

struct F64 {
  using Real = double;
  using V = __m512d;
  using M = __mmask8;
  static constexpr int width = 8, registers = 32;
  static constexpr bool fused = true;  // fma rounds once
  static constexpr int largest_shift = 2044;
  static constexpr bool has_lookup = false;

  static V set(double v) { return _mm512_set1_pd(v); }
  static V load(const double* p) { return _mm512_loadu_pd(p); }
  static V load(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
  static V load(const int32_t* p) {
    return _mm512_cvtepi32_pd(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void store(double* p, V v) { _mm512_storeu_pd(p, v); }
  static void store(float* p, V v) { _mm256_storeu_ps(p, _mm512_cvtpd_ps(v)); }
  static void stream(double* p, V v) { _mm512_stream_pd(p, v); }

  static V add(V a, V b) { return _mm512_add_pd(a, b); }
  static V sub(V a, V b) { return _mm512_sub_pd(a, b); }
  static V mul(V a, V b) { return _mm512_mul_pd(a, b); }
  static V div(V a, V b) { return _mm512_div_pd(a, b); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_pd(a, b, c); }
  static V fms(V a, V b, V c) { return _mm512_fmsub_pd(a, b, c); }
  static V fnma(V a, V b, V c) { return _mm512_fnmadd_pd(a, b, c); }
  static V min(V a, V b) { return _mm512_min_pd(a, b); }
  static V max(V a, V b) { return _mm512_max_pd(a, b); }
  static V at_most(V largest, V a) { return _mm512_range_pd(largest, a, 0b1010); }
  static V reciprocal(V a) { return div(set(1.0), a); }
  static V abs(V a) { return _mm512_abs_pd(a); }
  static V neg(V a) { return flip_sign(a, _mm512_set1_pd(-0.0)); }
  static V with_sign(V magnitude, V s) { return _mm512_or_pd(magnitude, _mm512_and_pd(s, _mm512_set1_pd(-0.0))); }
  static V flip_sign(V a, V s) { return _mm512_xor_pd(a, _mm512_and_pd(s, _mm512_set1_pd(-0.0))); }

  static M greater_equal(V a, V b) { return _mm512_cmp_pd_mask(a, b, _CMP_GE_OQ); }
  static M greater(V a, V b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ); }
  static M and_greater(M m, V a, V b) { return _mm512_mask_cmp_pd_mask(m, a, b, _CMP_GT_OQ); }
  static M either(M a, M b) { return _kor_mask8(a, b); }
  static bool any(M m) { return m != 0; }
  static V select(M m, V yes, V no) { return _mm512_mask_blend_pd(m, no, yes); }
  static V mul_where(M m, V a, V b) { return _mm512_mask_mul_pd(a, m, a, b); }  // a b or a
  static int count(M m) { return __builtin_popcount(m); }

  using Choice = __mmask8;
  static Choice choice(uint64_t word, int vector) { return static_cast<Choice>(word >> (8 * vector)); }
  static V flip(Choice c, V v) { return _mm512_mask_xor_pd(v, c, v, _mm512_set1_pd(-0.0)); }
  static V keep(Choice c, V v) { return _mm512_maskz_mov_pd(c, v); }
  static V pick(Choice c, V yes, V no) { return _mm512_mask_blend_pd(c, no, yes); }

  static void split(V u, V& k, V& m) {
    k = _mm512_getexp_pd(mul(u, set(1.4142135623730951)));
    m = _mm512_scalef_pd(u, neg(k));
  }
  static void add_to(double* sums, V v) { _mm512_storeu_pd(sums, _mm512_add_pd(_mm512_loadu_pd(sums), v)); }

  static V scale(V v, V n) { return _mm512_scalef_pd(v, n); }
  static V scale_normal(V v, V n) { return scale(v, n); }
  static void half_powers(V n, V& a, V& b) {
    const V one = _mm512_set1_pd(1.0);
    const V half = round(mul(n, _mm512_set1_pd(0.5)));
    a = scale(one, half);
    b = scale(one, sub(n, half));
  }

 private:
  static V round(V a) { return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
};

// Bit i: byte i of 64 is not 0.
inline uint64_t nonzero_bytes(const uint8_t* p) {
  const __m512i bytes = _mm512_loadu_si512(p);
  return _mm512_test_epi8_mask(bytes, bytes);
}
