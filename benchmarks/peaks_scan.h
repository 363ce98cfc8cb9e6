// The levels of peaks_scan.inl, from `popcnt` on words to the popcount of vectors.
#pragma once

#include <cstdint>

#include "common/intrinsics.h"
#include "common/target_region.h"

#if RDH_X86

namespace rdh {
namespace scan {

// A query, and its nibbles in bytes of their own: taken apart once and not for every pair.
template <class Word>
struct Query {
  Word word, low, high;
};

template <class Word>
Query<Word> query_of(Word word) {
  const Word nibbles = static_cast<Word>(0x0F0F0F0F0F0F0F0Fu);
  return {word, word & nibbles, (word >> 4) & nibbles};
}

#if defined(__clang__)
#define RDH_TARGET_POPCNT_BEGIN RDH_PRAGMA(clang attribute push(__attribute__((target("popcnt"))), apply_to = function))
#else
#define RDH_TARGET_POPCNT_BEGIN RDH_PRAGMA(GCC push_options) RDH_PRAGMA(GCC target("popcnt"))
#endif

RDH_TARGET_POPCNT_BEGIN
namespace popcnt {
template <class Word>
struct Codes {
  using V = Word;
  using Items = Word;
  static constexpr int width = 1, vectors = 8;
  static V zero() { return 0; }
  static Items items(const Word* g) { return *g; }
  static Items all(const Query<Word>& q) { return q.word; }
  static V distances(Items a, Items b) { return static_cast<Word>(__builtin_popcountll(a ^ b)); }
  static V add(V a, V b) { return a + b; }
  static void store(Word* lanes, V sums) { *lanes = sums; }
};
#include "peaks_scan.inl"
}  // namespace popcnt
RDH_TARGET_END

RDH_TARGET_AVX2_BEGIN
namespace avx2 {
template <class Word>
struct Codes {
  using V = __m256i;
  struct Items {
    V low, high;
  };
  static constexpr int width = 32 / sizeof(Word), vectors = 4;
  static V zero() { return _mm256_setzero_si256(); }
  static V broadcast(Word x) {
    if constexpr (sizeof(Word) == 8) return _mm256_set1_epi64x(static_cast<int64_t>(x));
    return _mm256_set1_epi32(static_cast<int32_t>(x));
  }
  static Items items(const Word* g) {
    const V x = _mm256_loadu_si256(reinterpret_cast<const V*>(g)), nibbles = _mm256_set1_epi8(15);
    return {_mm256_and_si256(x, nibbles), _mm256_and_si256(_mm256_srli_epi16(x, 4), nibbles)};
  }
  static Items all(const Query<Word>& q) { return {broadcast(q.low), broadcast(q.high)}; }
  static V distances(const Items& a, const Items& b) {
    const V ones = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const V bytes = _mm256_add_epi8(_mm256_shuffle_epi8(ones, _mm256_xor_si256(a.low, b.low)),
                                    _mm256_shuffle_epi8(ones, _mm256_xor_si256(a.high, b.high)));
    if constexpr (sizeof(Word) == 8) return _mm256_sad_epu8(bytes, zero());
    return _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
  }
  static V add(V a, V b) { return sizeof(Word) == 8 ? _mm256_add_epi64(a, b) : _mm256_add_epi32(a, b); }
  static void store(Word* lanes, V sums) { _mm256_storeu_si256(reinterpret_cast<V*>(lanes), sums); }
};
#include "peaks_scan.inl"
}  // namespace avx2
RDH_TARGET_END

RDH_TARGET_AVX512_BEGIN
namespace avx512 {
template <class Word>
struct Codes {
  using V = __m512i;
  struct Items {
    V low, high;
  };
  static constexpr int width = 64 / sizeof(Word), vectors = 8;
  static V zero() { return _mm512_setzero_si512(); }
  static V broadcast(Word x) {
    if constexpr (sizeof(Word) == 8) return _mm512_set1_epi64(static_cast<int64_t>(x));
    return _mm512_set1_epi32(static_cast<int32_t>(x));
  }
  static Items items(const Word* g) {
    const V x = _mm512_loadu_si512(g), nibbles = _mm512_set1_epi8(15);
    return {_mm512_and_si512(x, nibbles), _mm512_and_si512(_mm512_srli_epi16(x, 4), nibbles)};
  }
  static Items all(const Query<Word>& q) { return {broadcast(q.low), broadcast(q.high)}; }
  static V distances(const Items& a, const Items& b) {
    const V ones = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const V bytes = _mm512_add_epi8(_mm512_shuffle_epi8(ones, _mm512_xor_si512(a.low, b.low)),
                                    _mm512_shuffle_epi8(ones, _mm512_xor_si512(a.high, b.high)));
    if constexpr (sizeof(Word) == 8) return _mm512_sad_epu8(bytes, zero());
    return _mm512_madd_epi16(_mm512_maddubs_epi16(bytes, _mm512_set1_epi8(1)), _mm512_set1_epi16(1));
  }
  static V add(V a, V b) { return sizeof(Word) == 8 ? _mm512_add_epi64(a, b) : _mm512_add_epi32(a, b); }
  static void store(Word* lanes, V sums) { _mm512_storeu_si512(lanes, sums); }
};
#include "peaks_scan.inl"
}  // namespace avx512
RDH_TARGET_END

RDH_TARGET_AVX512VPOPCNTDQ_BEGIN
namespace avx512vpopcntdq {
template <class Word>
struct Codes {
  using V = __m512i;
  using Items = __m512i;
  static constexpr int width = 64 / sizeof(Word), vectors = 8;
  static V zero() { return _mm512_setzero_si512(); }
  static Items items(const Word* g) { return _mm512_loadu_si512(g); }
  static Items all(const Query<Word>& q) {
    if constexpr (sizeof(Word) == 8) return _mm512_set1_epi64(static_cast<int64_t>(q.word));
    return _mm512_set1_epi32(static_cast<int32_t>(q.word));
  }
  static V distances(Items a, Items b) {
    const V differ = _mm512_xor_si512(a, b);
    return sizeof(Word) == 8 ? _mm512_popcnt_epi64(differ) : _mm512_popcnt_epi32(differ);
  }
  static V add(V a, V b) { return sizeof(Word) == 8 ? _mm512_add_epi64(a, b) : _mm512_add_epi32(a, b); }
  static void store(Word* lanes, V sums) { _mm512_storeu_si512(lanes, sums); }
};
#include "peaks_scan.inl"
}  // namespace avx512vpopcntdq
RDH_TARGET_END

// Whether this CPU runs a level: 0 popcnt, 1 AVX2, 2 AVX-512, 3 AVX-512 with VPOPCNTDQ.
inline bool runs(int level) {
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  switch (level) {
    case 0:
      return __builtin_cpu_supports("popcnt");
    case 1:
      return __builtin_cpu_supports("avx2");
    case 2:
      return avx512;
    case 3:
      return avx512 && __builtin_cpu_supports("avx512vpopcntdq");
    default:
      return false;
  }
}

template <class Word>
int64_t sum_of_distances(int level, const Query<Word>* q, int64_t queries, const Word* g, int64_t gallery) {
  switch (level) {
    case 0:
      return popcnt::sum_of_distances(q, queries, g, gallery);
    case 1:
      return avx2::sum_of_distances(q, queries, g, gallery);
    case 2:
      return avx512::sum_of_distances(q, queries, g, gallery);
    default:
      return avx512vpopcntdq::sum_of_distances(q, queries, g, gallery);
  }
}

}  // namespace scan
}  // namespace rdh

#endif
