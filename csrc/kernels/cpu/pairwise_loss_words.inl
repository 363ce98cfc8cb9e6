// Sets of rows, columns and bits as words, eight at a time, for labels that are not class ids: looked up by the low
// bits of eight words at once, which takes the permutations of AVX-512. Included by pairwise_loss_kernel.cpp inside
// that target region, before pairwise_loss_simd.inl; other levels have NoWords.

struct Words {
  static constexpr bool exist = true;
  static constexpr int64_t lanes = 8;
  using V = __m512i;

  // Rows and columns of a 64 x 64 matrix of bits change places, as transpose_bits does it.
  static void transpose(uint64_t (&words)[64]) {
    V v[8];
    for (int i = 0; i < 8; ++i) v[i] = load(words + i * lanes);
    swap_far<4>(v);
    swap_far<2>(v);
    swap_far<1>(v);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      v[i] = swap_near<4>(v[i], _mm512_shuffle_i64x2(v[i], v[i], 0x4E));
      v[i] = swap_near<2>(v[i], _mm512_permutex_epi64(v[i], 0x4E));
      v[i] = swap_near<1>(v[i], _mm512_permutex_epi64(v[i], 0xB1));
    }
    for (int i = 0; i < 8; ++i) store(words + i * lanes, v[i]);
  }

  // For 8 columns, whose labels are the bits of `labels`: the rows that have one of them, of each panel. A word of
  // labels holds sixteen fours; tables: [four][panel][subset of the four], `tile_panels` panels.
  template <int64_t Panels>
  static void rows_of(const uint64_t* labels, int64_t labels_step, int64_t fours, const uint64_t* tables,
                      uint64_t* rows, int64_t rows_step) {
    V any[Panels];
    for (int64_t p = 0; p < Panels; ++p) any[p] = _mm512_setzero_si512();
    for (; fours > 0; fours -= 16, labels += labels_step) {
      V index = load(labels);
      for (int64_t four = std::min<int64_t>(fours, 16); four > 0; --four, tables += tile_panels * 16) {
#pragma GCC unroll 4
        for (int64_t p = 0; p < Panels; ++p) any[p] = _mm512_or_si512(any[p], one_of_16(tables + p * 16, index));
        index = _mm512_srli_epi64(index, 4);
      }
    }
    for (int64_t p = 0; p < Panels; ++p) store(rows + p * rows_step, any[p]);
  }

  // Counts of 8 rows and 64 bits, up to `most_counted`: bit b of each is in plane b, which has a word per row.
  static constexpr int64_t planes = 11, most_counted = (int64_t{1} << planes) - 1;
  static constexpr int64_t threes = block / 3;

  // Of `bits` values of n columns, which are negative, counted for every subset of each three columns: [three][bits of
  // one, of two][subset]. Beside that the sums of the signs. `finite` becomes false where a value is not; false is
  // returned where one is 0.
  template <class Real>
  static bool negative_of_threes(const Real* values, int64_t stride, int64_t n, int64_t bits, uint64_t* tables,
                                 int32_t* signs, bool& finite) {
    alignas(64) uint64_t words[block] = {};
    const bool nonzero = bits == 64 ? negative_words<true>(values, stride, n, bits, words, signs, finite)
                                    : negative_words<false>(values, stride, n, bits, words, signs, finite);
    for (int64_t three = 0; three < threes; ++three, tables += 16) {
      const uint64_t* of = words + 3 * three;
      const V a = in_lanes(0xAA, of[0]), b = in_lanes(0xCC, of[1]), c = in_lanes(0xF0, of[2]);
      store(tables, odd(a, b, c));
      store(tables + 8, majority(a, b, c));
    }
    return nonzero;
  }

  // For 8 rows, whose similar columns are the bits of `rows`: how many of these are negative in each bit is added.
  static void count(const uint64_t* rows, const uint64_t* tables, uint64_t* counts) {
    const V similar = load(rows);
    V odds[threes], twos[threes + threes / 2], fours[threes], eights[threes];
    V c[planes];
    for (int i = 0; i < planes; ++i) c[i] = load(counts + i * lanes);
#pragma GCC unroll 16
    for (int t = 0; t < threes; ++t) {
      const V index = _mm512_srli_epi64(similar, static_cast<unsigned>(3 * t));
      odds[t] = one_of_8(tables + t * 16, index);
      twos[t] = one_of_8(tables + t * 16 + 8, index);
    }
#pragma GCC unroll 16
    for (int t = 0; t < 8; ++t) add(c[0], odds[2 * t], odds[2 * t + 1], twos[threes + t]);
#pragma GCC unroll 16
    for (int t = 0; t < 12; ++t) add(c[1], twos[2 * t], twos[2 * t + 1], fours[t]);
#pragma GCC unroll 16
    for (int t = 0; t < 6; ++t) add(c[2], fours[2 * t], fours[2 * t + 1], eights[t]);
    V x, y, z, carry;
    add(c[3], eights[0], eights[1], x);
    add(c[3], eights[2], eights[3], y);
    add(c[3], eights[4], eights[5], z);
    add(c[4], x, y, x);
    add(c[4], z, y);
    add(c[5], x, y, carry);
#pragma GCC unroll 16
    for (int i = 6; i < planes; ++i) add(c[i], carry, carry);
    for (int i = 0; i < planes; ++i) store(counts + i * lanes, c[i]);
  }

  // What has been counted for one row: start - 2 counts.
  static void total(const uint64_t* counts, int32_t start, int16_t (&to)[64]) {
    V low = _mm512_set1_epi16(static_cast<int16_t>(start)), high = low;
#pragma GCC unroll 16
    for (int i = 0; i < planes; ++i) {
      const uint64_t word = counts[i * lanes];
      const V two = _mm512_set1_epi16(static_cast<int16_t>(2 << i));
      low = _mm512_mask_sub_epi16(low, static_cast<__mmask32>(word), low, two);
      high = _mm512_mask_sub_epi16(high, static_cast<__mmask32>(word >> 32), high, two);
    }
    _mm512_storeu_si512(to, low);
    _mm512_storeu_si512(to + 32, high);
  }

 private:
  static V load(const uint64_t* p) { return _mm512_loadu_si512(p); }
  static void store(uint64_t* p, V v) { _mm512_storeu_si512(p, v); }
  static V in_lanes(__mmask8 lanes, uint64_t word) {
    return _mm512_maskz_set1_epi64(lanes, static_cast<int64_t>(word));
  }
  static V odd(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
  static V majority(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0xE8); }
  static V one_of_8(const uint64_t* table, V index) { return _mm512_permutexvar_epi64(index, load(table)); }
  static V one_of_16(const uint64_t* table, V index) {
    return _mm512_permutex2var_epi64(load(table), index, load(table + 8));
  }

  // The lower half of every 2 Distance bits.
  template <int Distance>
  static V lower_bits() {
    return _mm512_set1_epi64(static_cast<int64_t>(~uint64_t{0} / ((uint64_t{1} << Distance) + 1)));
  }
  static V select(V mask, V yes, V no) { return _mm512_ternarylogic_epi64(mask, yes, no, 0xCA); }
  // Bits that change places with those of words 8 Distance away.
  template <int Distance>
  static void swap_far(V (&v)[8]) {
    constexpr int bits = Distance * lanes;
    const V lower = lower_bits<bits>();
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      if ((i & Distance) != 0) continue;
      const V a = v[i], b = v[i + Distance];
      v[i] = select(lower, a, _mm512_slli_epi64(b, bits));
      v[i + Distance] = select(lower, _mm512_srli_epi64(a, bits), b);
    }
  }
  // The same Distance away; `other` has the lanes of those words.
  template <int Distance>
  static V swap_near(V v, V other) {
    constexpr __mmask8 upper = Distance == 4 ? 0xF0 : Distance == 2 ? 0xCC : 0xAA;  // lanes
    const V rotation = _mm512_mask_mov_epi64(_mm512_set1_epi64(Distance), upper, _mm512_set1_epi64(64 - Distance));
    const V lower = lower_bits<Distance>(), own = _mm512_mask_xor_epi64(lower, upper, lower, _mm512_set1_epi64(-1));
    return select(own, v, _mm512_rolv_epi64(other, rotation));
  }

  // sum + a + b (+ c): bits of the sum and of the carry
  static void add(V& sum, V a, V b, V& carry) {
    const V s = sum;
    sum = odd(s, a, b);
    carry = majority(s, a, b);
  }
  static void add(V& sum, V a, V& carry) {
    const V s = sum;
    sum = _mm512_xor_si512(s, a);
    carry = _mm512_and_si512(s, a);
  }

  // Values of one vector of bits, column by column; `add` says which are negative.
  struct Floats {
    static constexpr int64_t width = 16;
    __mmask16 nonzero;
    __m512i signs;
    __m512 poison;

    Floats() : nonzero(0xFFFF), signs(_mm512_setzero_si512()), poison(_mm512_setzero_ps()) {}
    __mmask16 add(const float* p) {
      const __m512 values = _mm512_loadu_ps(p);
      const __m512i bits = _mm512_castps_si512(values);
      const __mmask16 negative = _mm512_movepi32_mask(bits);
      nonzero = _mm512_mask_test_epi32_mask(nonzero, bits, _mm512_set1_epi32(INT32_MAX));
      signs = _mm512_mask_sub_epi32(signs, negative, signs, _mm512_set1_epi32(2));
      poison = _mm512_fmadd_ps(values, _mm512_setzero_ps(), poison);
      return negative;
    }
    bool finite() const { return _mm512_cmp_ps_mask(poison, poison, _CMP_UNORD_Q) == 0; }
    void store_signs(int64_t n, int32_t* to) const {
      _mm512_storeu_si512(to, _mm512_add_epi32(signs, _mm512_set1_epi32(static_cast<int32_t>(n))));
    }
  };
  struct Doubles {
    static constexpr int64_t width = 8;
    __mmask8 nonzero;
    __m256i signs;
    __m512d poison;

    Doubles() : nonzero(0xFF), signs(_mm256_setzero_si256()), poison(_mm512_setzero_pd()) {}
    __mmask8 add(const double* p) {
      const __m512d values = _mm512_loadu_pd(p);
      const __m512i bits = _mm512_castpd_si512(values);
      const __mmask8 negative = _mm512_movepi64_mask(bits);
      nonzero = _mm512_mask_test_epi64_mask(nonzero, bits, _mm512_set1_epi64(INT64_MAX));
      signs = _mm256_mask_sub_epi32(signs, negative, signs, _mm256_set1_epi32(2));
      poison = _mm512_fmadd_pd(values, _mm512_setzero_pd(), poison);
      return negative;
    }
    bool finite() const { return _mm512_cmp_pd_mask(poison, poison, _CMP_UNORD_Q) == 0; }
    void store_signs(int64_t n, int32_t* to) const {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                          _mm256_add_epi32(signs, _mm256_set1_epi32(static_cast<int32_t>(n))));
    }
  };

  // words: which values of a column are negative. Behind the last bit a column has zeros up to a whole vector.
  template <bool Whole, class Real>
  static bool negative_words(const Real* values, int64_t stride, int64_t n, int64_t bits, uint64_t* words,
                             int32_t* signs, bool& finite) {
    using Vector = std::conditional_t<std::is_same_v<Real, float>, Floats, Doubles>;
    constexpr int64_t width = Vector::width, all = 64 / width;
    const int64_t vectors = Whole ? all : (bits + width - 1) / width;
    Vector v[all];
    for (int64_t j = 0; j < n; ++j, values += stride) {
      char* to = reinterpret_cast<char*>(words + j);
#pragma GCC unroll 8
      for (int64_t i = 0; i < vectors; ++i) {
        const auto negative = v[i].add(values + i * width);
        std::memcpy(to + i * width / 8, &negative, sizeof negative);
      }
    }
    uint64_t nonzero = 0;
#pragma GCC unroll 8
    for (int64_t i = 0; i < vectors; ++i) {
      nonzero |= static_cast<uint64_t>(v[i].nonzero) << (i * width);
      finite &= v[i].finite();
      v[i].store_signs(n, signs + i * width);
    }
    const uint64_t wanted = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
    return (nonzero & wanted) == wanted;
  }
};
