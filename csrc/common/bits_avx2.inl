// 256 bits at a time, for algorithms on bit planes. Included inside a target region and a namespace of that level,
// after all library headers. The interface of bits_avx512.inl.

struct Bits {
  using V = __m256i;
  static constexpr int words = 4;
  static constexpr bool counts = false;
  static constexpr bool compresses = false;
  static constexpr bool transposes = false;

  static V zero() { return _mm256_setzero_si256(); }
  static V ones() { return _mm256_set1_epi64x(-1); }
  static V set(uint64_t word) { return _mm256_set1_epi64x(static_cast<long long>(word)); }
  static V load(const uint64_t* p) { return _mm256_loadu_si256(reinterpret_cast<const V*>(p)); }
  static void store(uint64_t* p, V v) { _mm256_storeu_si256(reinterpret_cast<V*>(p), v); }

  static V both(V a, V b) { return _mm256_and_si256(a, b); }
  static V without(V a, V b) { return _mm256_andnot_si256(b, a); }
  static V either(V a, V b) { return _mm256_or_si256(a, b); }
  static V differ(V a, V b) { return _mm256_xor_si256(a, b); }
  static V sum(V a, V b, V c) { return differ(differ(a, b), c); }
  static V carry(V a, V b, V c) { return either(both(a, b), both(differ(a, b), c)); }
  static V borrow(V a, V b, V c) { return either(both(b, c), without(either(b, c), a)); }  // carry(~a, b, c)
  static bool any(V v) { return !_mm256_testz_si256(v, v); }

  static void minterms(V a, V b, V c, V* out) {
    const V both_set = both(b, c), c_alone = without(c, b), b_alone = without(b, c);
    const V none = without(ones(), either(b, c));
    const V of[4] = {none, b_alone, c_alone, both_set};
    for (int m = 0; m < 4; ++m) {
      out[2 * m] = without(of[m], a);
      out[2 * m + 1] = both(of[m], a);
    }
  }

  static V add(V a, V b) { return _mm256_add_epi64(a, b); }
  static V subtract(V a, V b) { return _mm256_sub_epi64(a, b); }
  template <int N>
  static V left(V v) {
    return _mm256_slli_epi64(v, N);
  }
  template <int N>
  static V right(V v) {
    return _mm256_srli_epi64(v, N);
  }
  static V count(V v) {
    const V nibble = _mm256_set1_epi8(15);
    const V table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3,
                                     2, 3, 3, 4);
    const V low = _mm256_shuffle_epi8(table, _mm256_and_si256(v, nibble));
    const V high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble));
    return _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256());
  }
  static V before_each(V v, uint64_t& all) {
    V sum = add(v, _mm256_slli_si256(v, 8));
    const V of_half = _mm256_permute4x64_epi64(sum, 0x50);  // words 0, 0, 1, 1: of the lower half, in the upper one
    sum = add(sum, _mm256_blend_epi32(zero(), of_half, 0xF0));
    all = static_cast<uint64_t>(_mm256_extract_epi64(sum, 3));
    return _mm256_sub_epi64(sum, v);
  }
  static uint64_t total(V v) {
    const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return static_cast<uint64_t>(_mm_cvtsi128_si64(two)) + static_cast<uint64_t>(_mm_extract_epi64(two, 1));
  }
  static void totals(const V* v, uint64_t* out) {  // of eight
    for (int i = 0; i < 8; ++i) out[i] = total(v[i]);
  }

  static V bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const V*>(p)); }
  static uint64_t top_bits(V low, V high) {
    return static_cast<uint32_t>(_mm256_movemask_epi8(low)) |
           static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(high))) << 32;
  }
  static uint64_t equal(const uint8_t* p, uint8_t value) {
    const V v = _mm256_set1_epi8(static_cast<char>(value));
    return top_bits(_mm256_cmpeq_epi8(bytes(p), v), _mm256_cmpeq_epi8(bytes(p + 32), v));
  }
  static uint64_t nonzero(const uint8_t* p) { return ~equal(p, 0); }

  // Bytes whose bit is set in 32 bits: each looks at the byte that has its bit, and at that bit alone.
  static V chosen(uint32_t bits) {
    const V each = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const V place = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
    const V byte = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)), each);
    return _mm256_cmpeq_epi8(_mm256_and_si256(byte, place), place);
  }
  [[gnu::always_inline]] static void numbers(const uint64_t* planes, int64_t stride, int count, uint8_t* out) {
    V low = zero(), high = zero();
    for (int k = 0; k < count; ++k) {
      const V value = _mm256_set1_epi8(static_cast<char>(1 << k));
      low = either(low, both(chosen(static_cast<uint32_t>(planes[k * stride])), value));
      high = either(high, both(chosen(static_cast<uint32_t>(planes[k * stride] >> 32)), value));
    }
    _mm256_storeu_si256(reinterpret_cast<V*>(out), low);
    _mm256_storeu_si256(reinterpret_cast<V*>(out + 32), high);
  }
};
