// 512 bits at a time, for algorithms on bit planes. Included inside a target region and a namespace of that level,
// after all library headers; RDH_VPOPCNTDQ says whether the level counts bits in one instruction. The same interface as
// bits_avx2.inl and bits_portable.inl: algorithms are written once over it.

struct Bits {
  using V = __m512i;
  static constexpr int words = 8;

  static V zero() { return _mm512_setzero_si512(); }
  static V ones() { return _mm512_set1_epi64(-1); }
  static V set(uint64_t word) { return _mm512_set1_epi64(static_cast<long long>(word)); }
  static V load(const uint64_t* p) { return _mm512_loadu_si512(p); }
  static void store(uint64_t* p, V v) { _mm512_storeu_si512(p, v); }

  static V both(V a, V b) { return _mm512_and_si512(a, b); }
  static V without(V a, V b) { return _mm512_andnot_si512(b, a); }  // a & ~b
  static V either(V a, V b) { return _mm512_or_si512(a, b); }
  static V differ(V a, V b) { return _mm512_xor_si512(a, b); }
  static V sum(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
  static V carry(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0xE8); }
  static V borrow(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x8E); }  // carry(~a, b, c)
  static bool any(V v) { return _mm512_test_epi64_mask(v, v) != 0; }

  // out[m]: where the bits of (c, b, a) are those of m
  static void minterms(V a, V b, V c, V* out) {
    out[0] = _mm512_ternarylogic_epi64(c, b, a, 0x01);
    out[1] = _mm512_ternarylogic_epi64(c, b, a, 0x02);
    out[2] = _mm512_ternarylogic_epi64(c, b, a, 0x04);
    out[3] = _mm512_ternarylogic_epi64(c, b, a, 0x08);
    out[4] = _mm512_ternarylogic_epi64(c, b, a, 0x10);
    out[5] = _mm512_ternarylogic_epi64(c, b, a, 0x20);
    out[6] = _mm512_ternarylogic_epi64(c, b, a, 0x40);
    out[7] = _mm512_ternarylogic_epi64(c, b, a, 0x80);
  }

  // Numbers of 64 bits.
  static V add(V a, V b) { return _mm512_add_epi64(a, b); }
  static V subtract(V a, V b) { return _mm512_sub_epi64(a, b); }
  template <int N>
  static V left(V v) {
    return _mm512_slli_epi64(v, N);
  }
  template <int N>
  static V right(V v) {
    return _mm512_srli_epi64(v, N);
  }
#if RDH_VPOPCNTDQ
  static constexpr bool counts = true;  // a count is one instruction: not worth saving
  static V count(V v) { return _mm512_popcnt_epi64(v); }
#else
  static constexpr bool counts = false;
  static V count(V v) {  // of each word
    const V nibble = _mm512_set1_epi8(15);
    const V table = _mm512_set4_epi32(0x04030302, 0x03020201, 0x03020201, 0x02010100);
    const V low = _mm512_shuffle_epi8(table, _mm512_and_si512(v, nibble));
    const V high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble));
    return _mm512_sad_epu8(_mm512_add_epi8(low, high), _mm512_setzero_si512());
  }
#endif
  // Of every number the sum of those before it, and the sum of all.
  static V before_each(V v, uint64_t& all) {
    V sum = add(v, _mm512_alignr_epi64(v, zero(), 7));
    sum = add(sum, _mm512_alignr_epi64(sum, zero(), 6));
    sum = add(sum, _mm512_alignr_epi64(sum, zero(), 4));
    all = static_cast<uint64_t>(_mm_extract_epi64(_mm512_extracti64x2_epi64(sum, 3), 1));
    return _mm512_sub_epi64(sum, v);
  }
  static uint64_t total(V v) { return static_cast<uint64_t>(_mm512_reduce_add_epi64(v)); }
  static void totals(const V* v, uint64_t* out) {  // of eight
    V pair[4], four[2];
    for (int i = 0; i < 4; ++i) {
      pair[i] = add(_mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]));
    }
    for (int i = 0; i < 2; ++i) four[i] = quarters(pair[2 * i], pair[2 * i + 1]);
    store(out, quarters(four[0], four[1]));
  }
  // Neighbouring quarters, added: two of a, two of b.
  static V quarters(V a, V b) { return add(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xDD)); }

  // 64 bytes, one bit of each.
  static uint64_t equal(const uint8_t* p, uint8_t value) {
    return _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(p), _mm512_set1_epi8(static_cast<char>(value)));
  }
  static uint64_t nonzero(const uint8_t* p) {
    const V v = _mm512_loadu_si512(p);
    return _mm512_test_epi8_mask(v, v);
  }

  // Bit i of the words planes[0], planes[stride], ... as number i: 64 bytes of at most 8 planes.
  [[gnu::always_inline]] static void numbers(const uint64_t* planes, int64_t stride, int count, uint8_t* out) {
    V v = _mm512_setzero_si512();
    for (int k = 0; k < count; ++k) {
      v = _mm512_mask_add_epi8(v, planes[k * stride], v, _mm512_set1_epi8(static_cast<char>(1 << k)));
    }
    _mm512_storeu_si512(out, v);
  }

#if RDH_VPOPCNTDQ
  // The same for all eight lanes of some registers, of which each is one digit: squares of 8 x 8 words, of 8 x 8 bytes
  // and of 8 x 8 bits are transposed. The bytes of a lane come 512 behind those of the one before.
  static constexpr bool transposes = true;
  static void numbers_of_lanes(const V* digits, int count, uint8_t* out) {
    V pair[8], four[8], lane[8];
    const auto digit = [&](int k) { return k < count ? digits[k] : zero(); };
    for (int i = 0; i < 4; ++i) {  // even lanes and odd ones of two digits
      pair[2 * i] = _mm512_unpacklo_epi64(digit(2 * i), digit(2 * i + 1));
      pair[2 * i + 1] = _mm512_unpackhi_epi64(digit(2 * i), digit(2 * i + 1));
    }
    for (int i = 0; i < 8; i += 4) {  // of four digits: lanes 0 and 4, 1 and 5, 2 and 6, 3 and 7
      for (int odd = 0; odd < 2; ++odd) {
        const V a = pair[i + odd], b = pair[i + 2 + odd];
        four[i + odd] = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), b);
        four[i + 2 + odd] = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15), b);
      }
    }
    for (int i = 0; i < 4; ++i) {
      lane[i] = _mm512_shuffle_i64x2(four[i], four[4 + i], 0x44);
      lane[4 + i] = _mm512_shuffle_i64x2(four[i], four[4 + i], 0xEE);
    }
    // byte j of digit k to byte 7 - k of word j: the matrices of GF2P8AFFINEQB have their last row first
    alignas(64) static constexpr auto order = [] {
      std::array<uint8_t, 64> to{};
      for (int j = 0; j < 8; ++j) {
        for (int k = 0; k < 8; ++k) to[static_cast<size_t>(8 * j + 7 - k)] = static_cast<uint8_t>(8 * k + j);
      }
      return to;
    }();
    const V bytes = _mm512_load_si512(order.data());
    const V identity = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201));
    for (int i = 0; i < 8; ++i) {
      const V squares = _mm512_permutexvar_epi8(bytes, lane[i]);
      _mm512_storeu_si512(out + 512 * i, _mm512_gf2p8affine_epi64_epi8(identity, squares, 0));
    }
  }
#else
  static constexpr bool transposes = false;
#endif

  // Those of 64 items that are in the mask, side by side: the byte of each 2^18 times, plus `first` and its place.
  // Writes up to 16 words more than there are; returns how many there are.
  static constexpr bool compresses = true;
  static int64_t compress(uint64_t mask, const uint8_t* bytes, uint32_t first, uint32_t* to) {
    const V iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint32_t* end = to;
    for (int i = 0; i < 64; i += 16) {
      const V wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i)));
      const V place = _mm512_add_epi32(iota, _mm512_set1_epi32(static_cast<int>(first + static_cast<uint32_t>(i))));
      const auto some = static_cast<__mmask16>(mask >> i);
      _mm512_storeu_si512(end, _mm512_maskz_compress_epi32(some, _mm512_add_epi32(_mm512_slli_epi32(wide, 18), place)));
      end += __builtin_popcount(some);
    }
    return end - to;
  }
};
