// AVX2 lanes. Included inside a target region and a namespace of that level, after all library headers.
// The same interface as simd_avx512.inl: algorithms are written once over it.

struct F32 {
  using Real = float;
  using V = __m256;
  using M = __m256;
  static constexpr int width = 8, registers = 16;
  static constexpr bool fused = true;        // fma rounds once
  static constexpr int largest_shift = 252;  // of scale and half_powers
  static constexpr bool has_lookup = false;

  static V set(float v) { return _mm256_set1_ps(v); }
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static V load(const BFloat16* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static V load(const Float16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static void store(float* p, V v) { _mm256_storeu_ps(p, v); }
  static void store(BFloat16* p, V v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_bf16(v)); }
  static void store(Float16* p, V v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_f16(v)); }
  static void stream(float* p, V v) { _mm256_stream_ps(p, v); }
  static void stream(BFloat16* p, V v) { _mm_stream_si128(reinterpret_cast<__m128i*>(p), to_bf16(v)); }
  static void stream(Float16* p, V v) { _mm_stream_si128(reinterpret_cast<__m128i*>(p), to_f16(v)); }

  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static V div(V a, V b) { return _mm256_div_ps(a, b); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }    // a b + c
  static V fms(V a, V b, V c) { return _mm256_fmsub_ps(a, b, c); }    // a b - c
  static V fnma(V a, V b, V c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a b
  static V min(V a, V b) { return _mm256_min_ps(a, b); }              // b where either is NaN
  static V max(V a, V b) { return _mm256_max_ps(a, b); }
  static V at_most(V largest, V a) { return min(largest, abs(a)); }  // |a|, unless it is NaN
  static V reciprocal(V a) {                                         // within 1 ulp
    const V r = _mm256_rcp_ps(a), rest = fnma(a, r, set(1.0f));
    return fma(r, fma(rest, rest, rest), r);
  }
  static V abs(V a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static V neg(V a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
  // magnitude >= 0 with the sign of s; a with its sign flipped where s is negative
  static V with_sign(V magnitude, V s) { return _mm256_or_ps(magnitude, _mm256_and_ps(s, _mm256_set1_ps(-0.0f))); }
  static V flip_sign(V a, V s) { return _mm256_xor_ps(a, _mm256_and_ps(s, _mm256_set1_ps(-0.0f))); }

  static M greater_equal(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
  static M greater(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
  static M and_greater(M m, V a, V b) { return _mm256_and_ps(m, greater(a, b)); }
  static M either(M a, M b) { return _mm256_or_ps(a, b); }
  static bool any(M m) { return _mm256_movemask_ps(m) != 0; }
  static V select(M m, V yes, V no) { return _mm256_blendv_ps(no, yes, m); }
  static V mul_where(M m, V a, V b) { return select(m, mul(a, b), a); }  // a b or a
  static int count(M m) { return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(m))); }

  // lanes that are chosen by the bits of a word, which has one for each lane of several vectors; the sign of a lane
  // says
  using Choice = V;
  static Choice choice(uint64_t word, int vector) {
    const __m256i places = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
    const __m256i bits = _mm256_sllv_epi32(_mm256_set1_epi32(static_cast<int>(word >> (8 * vector))), places);
    return _mm256_and_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(-0.0f));
  }
  static V flip(Choice c, V v) { return _mm256_xor_ps(v, c); }  // the sign, where chosen
  static V keep(Choice c, V v) { return _mm256_blendv_ps(set(0), v, c); }
  static V pick(Choice c, V yes, V no) { return _mm256_blendv_ps(no, yes, c); }

  // u = 2^k m, m in [sqrt(1/2), sqrt(2)), for normal u > 0
  static void split(V u, V& k, V& m) {
    const __m256i root_half = _mm256_set1_epi32(0x3F3504F3);
    const __m256i above = _mm256_sub_epi32(_mm256_castps_si256(u), root_half);
    k = _mm256_cvtepi32_ps(_mm256_srai_epi32(above, 23));
    m = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_and_si256(above, _mm256_set1_epi32(0x7FFFFF)), root_half));
  }
  static void add_to(double* sums, V v) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(v)), high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
    _mm256_storeu_pd(sums, _mm256_add_pd(_mm256_loadu_pd(sums), low));
    _mm256_storeu_pd(sums + 4, _mm256_add_pd(_mm256_loadu_pd(sums + 4), high));
  }

  // v 2^n for integral n in [-252, 0], in two normal steps, so that a subnormal result is rounded once
  static V scale(V v, V n) {
    V a, b;
    half_powers(n, a, b);
    return mul(mul(v, a), b);
  }
  // the same for v and v 2^n normal; a NaN stays one
  static V scale_normal(V v, V n) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
  }
  // a b = 2^n for integral n in [-252, 0], both normal; any n (NaN too) gives finite bits
  static void half_powers(V n, V& a, V& b) {
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    a = power(half);
    b = power(_mm256_sub_epi32(whole, half));
  }

 private:
  static V power(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
  // round to nearest even; a NaN becomes the quiet NaN
  static __m128i to_bf16(V v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    rounded = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7FC00000), nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
  }
  static __m128i to_f16(V v) { return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
};

struct F64 {
  using Real = double;
  using V = __m256d;
  using M = __m256d;
  static constexpr int width = 4, registers = 16;
  static constexpr bool fused = true;  // fma rounds once
  static constexpr int largest_shift = 2044;
  static constexpr bool has_lookup = false;

  static V set(double v) { return _mm256_set1_pd(v); }
  static V load(const double* p) { return _mm256_loadu_pd(p); }
  static V load(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
  static V load(const int32_t* p) { return _mm256_cvtepi32_pd(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static void store(double* p, V v) { _mm256_storeu_pd(p, v); }
  static void store(float* p, V v) { _mm_storeu_ps(p, _mm256_cvtpd_ps(v)); }
  static void stream(double* p, V v) { _mm256_stream_pd(p, v); }

  static V add(V a, V b) { return _mm256_add_pd(a, b); }
  static V sub(V a, V b) { return _mm256_sub_pd(a, b); }
  static V mul(V a, V b) { return _mm256_mul_pd(a, b); }
  static V div(V a, V b) { return _mm256_div_pd(a, b); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_pd(a, b, c); }
  static V fms(V a, V b, V c) { return _mm256_fmsub_pd(a, b, c); }
  static V fnma(V a, V b, V c) { return _mm256_fnmadd_pd(a, b, c); }
  static V min(V a, V b) { return _mm256_min_pd(a, b); }
  static V max(V a, V b) { return _mm256_max_pd(a, b); }
  static V at_most(V largest, V a) { return min(largest, abs(a)); }
  static V reciprocal(V a) { return div(set(1.0), a); }
  static V abs(V a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }
  static V neg(V a) { return _mm256_xor_pd(a, _mm256_set1_pd(-0.0)); }
  static V with_sign(V magnitude, V s) { return _mm256_or_pd(magnitude, _mm256_and_pd(s, _mm256_set1_pd(-0.0))); }
  static V flip_sign(V a, V s) { return _mm256_xor_pd(a, _mm256_and_pd(s, _mm256_set1_pd(-0.0))); }

  static M greater_equal(V a, V b) { return _mm256_cmp_pd(a, b, _CMP_GE_OQ); }
  static M greater(V a, V b) { return _mm256_cmp_pd(a, b, _CMP_GT_OQ); }
  static M and_greater(M m, V a, V b) { return _mm256_and_pd(m, greater(a, b)); }
  static M either(M a, M b) { return _mm256_or_pd(a, b); }
  static bool any(M m) { return _mm256_movemask_pd(m) != 0; }
  static V select(M m, V yes, V no) { return _mm256_blendv_pd(no, yes, m); }
  static V mul_where(M m, V a, V b) { return select(m, mul(a, b), a); }  // a b or a
  static int count(M m) { return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_pd(m))); }

  using Choice = V;
  static Choice choice(uint64_t word, int vector) {
    const __m256i places = _mm256_setr_epi64x(63, 62, 61, 60);
    const __m256i bits = _mm256_sllv_epi64(_mm256_set1_epi64x(static_cast<int64_t>(word >> (4 * vector))), places);
    return _mm256_and_pd(_mm256_castsi256_pd(bits), _mm256_set1_pd(-0.0));
  }
  static V flip(Choice c, V v) { return _mm256_xor_pd(v, c); }
  static V keep(Choice c, V v) { return _mm256_blendv_pd(set(0), v, c); }
  static V pick(Choice c, V yes, V no) { return _mm256_blendv_pd(no, yes, c); }

  static void split(V u, V& k, V& m) {
    const __m256i root_half = _mm256_set1_epi64x(0x3FE6A09E667F3BCD);
    const __m256i above = _mm256_sub_epi64(_mm256_castpd_si256(u), root_half);
    // k + 1.5 2^52 by integer arithmetic; u >= 1/2 here, so k >= -1: the shift of a negative number is put right
    const __m256i shifted =
        _mm256_sub_epi64(_mm256_srli_epi64(_mm256_add_epi64(above, _mm256_set1_epi64x(int64_t{1} << 62)), 52),
                         _mm256_set1_epi64x(int64_t{1} << 10));
    const V rounder = set(6755399441055744.0);
    k = sub(_mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(rounder), shifted)), rounder);
    m = _mm256_castsi256_pd(
        _mm256_add_epi64(_mm256_and_si256(above, _mm256_set1_epi64x((int64_t{1} << 52) - 1)), root_half));
  }
  static void add_to(double* sums, V v) { _mm256_storeu_pd(sums, _mm256_add_pd(_mm256_loadu_pd(sums), v)); }

  // as for F32, with n in [-2044, 0]
  static V scale(V v, V n) {
    V a, b;
    half_powers(n, a, b);
    return mul(mul(v, a), b);
  }
  static V scale_normal(V v, V n) {
    const __m256i exponent = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n));
    return _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(v), _mm256_slli_epi64(exponent, 52)));
  }
  static void half_powers(V n, V& a, V& b) {
    const __m128i whole = _mm256_cvtpd_epi32(n);
    const __m128i half = _mm_srai_epi32(whole, 1);
    a = power(half);
    b = power(_mm_sub_epi32(whole, half));
  }

 private:
  static V power(__m128i n) {
    const __m256i exponent = _mm256_cvtepi32_epi64(_mm_add_epi32(n, _mm_set1_epi32(1023)));
    return _mm256_castsi256_pd(_mm256_slli_epi64(exponent, 52));
  }
};

// Bit i: byte i of 64 is not 0.
inline uint64_t nonzero_bytes(const uint8_t* p) {
  uint64_t zeros = 0;
  for (int i = 0; i < 2; ++i) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32 * i));
    const __m256i equal = _mm256_cmpeq_epi8(bytes, _mm256_setzero_si256());
    zeros |= static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(equal))) << (32 * i);
  }
  return ~zeros;
}
