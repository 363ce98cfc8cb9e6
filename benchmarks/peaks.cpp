// What the arithmetic of this CPU does at most, for the floors of the benchmarks: compiled on the spot and called by
// peaks.py. Each function runs for about `seconds` on the calling thread; -1 is "not available": this CPU does not
// have the level (1 is AVX2, 2 is AVX-512).

#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/element.h"
#include "common/host_device.h"
#include "common/intrinsics.h"
#include "common/target_region.h"
#include "kernels/cpu/pairwise_loss_problem.h"
#include "peaks_scan.h"

namespace rdh {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Time of one unit of work: `work` does some and says how many, until `seconds` have passed.
template <class Work>
double seconds_per_unit(double seconds, Work work) {
  const double start = now();
  double done = 0, end = start;
  while (end - start < seconds) {
    done += work();
    end = now();
  }
  return (end - start) / done;
}

using cpu::block, cpu::panel;

volatile float sink;  // keeps what nobody reads

bool runs(int level) {
#if RDH_X86
  if (level == 1) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (level == 2) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
#endif
  (void)level;
  return false;
}

#if RDH_X86
RDH_TARGET_AVX2_BEGIN
namespace avx2 {
#include "common/simd_avx2.inl"
#include "common/simd_twice.inl"
#include "kernels/cpu/pairwise_loss_formula.inl"
//
#include "peaks_simd.inl"
}  // namespace avx2
RDH_TARGET_END

RDH_TARGET_AVX512_BEGIN
namespace avx512 {
#include "common/simd_avx512.inl"
#include "common/simd_twice.inl"
#include "kernels/cpu/pairwise_loss_formula.inl"
//
#include "peaks_simd.inl"
}  // namespace avx512
RDH_TARGET_END
#endif

#if RDH_X86
template <class Word>
int64_t scanned(int level, const void* q, int64_t queries, const void* g, int64_t gallery) {
  std::vector<scan::Query<Word>> prepared(static_cast<size_t>(queries));
  for (int64_t i = 0; i < queries; ++i) {
    Word word;
    std::memcpy(&word, static_cast<const Word*>(q) + i, sizeof(Word));
    prepared[static_cast<size_t>(i)] = scan::query_of(word);
  }
  return scan::sum_of_distances(level, prepared.data(), queries, static_cast<const Word*>(g), gallery);
}
#endif

}  // namespace
}  // namespace rdh

extern "C" {

// Floating-point operations per second of float32 fused multiply-adds, two to each.
double fma_flops_per_second(int level, double seconds) {
  using namespace rdh;
#if RDH_X86
  if (level == 1 && runs(1)) return 1 / seconds_per_unit(seconds, avx2::fma_block);
  if (level == 2 && runs(2)) return 1 / seconds_per_unit(seconds, avx512::fma_block);
#endif
  return -1;
}

// What the pairwise loss does to a pair beside its two products, alone: value and derivative of a theta in the cache.
double elementwise_seconds_per_pair(int level, double seconds) {
  using namespace rdh;
#if RDH_X86
  if (level == 1 && runs(1)) return seconds_per_unit(seconds, avx2::pairs_block);
  if (level == 2 && runs(2)) return seconds_per_unit(seconds, avx512::pairs_block);
#endif
  return -1;
}

// Clocks of this core per second while it has something to do: operations on bits that wait for one another take one
// each.
double core_clock(double seconds) {
  using namespace rdh;
#if RDH_X86 || defined(__aarch64__)
  const auto work = [] {
    uint64_t x = 1, y = 3;
    for (int i = 0; i < 1000; ++i) {
#pragma GCC unroll 64
      for (int step = 0; step < 64; ++step) {
#if RDH_X86
        asm volatile("xor %1, %0" : "+r"(x) : "r"(y));
#else
        asm volatile("eor %0, %0, %1" : "+r"(x) : "r"(y));
#endif
      }
    }
    return 64000.0;
  };
  return 1 / seconds_per_unit(seconds, work);
#else
  (void)seconds;
  return -1;
#endif
}

// The plain scan: the sum of the Hamming distances of all pairs of codes, words of 4 or 8 bytes. Levels: 0 popcnt,
// 1 AVX2, 2 AVX-512, 3 AVX-512 with VPOPCNTDQ.
int64_t hamming_scan(int level, int word_bytes, const void* q, int64_t queries, const void* g, int64_t gallery) {
  using namespace rdh;
#if RDH_X86
  if (scan::runs(level) && word_bytes == 4) return scanned<uint32_t>(level, q, queries, g, gallery);
  if (scan::runs(level) && word_bytes == 8) return scanned<uint64_t>(level, q, queries, g, gallery);
#else
  (void)level, (void)word_bytes, (void)q, (void)queries, (void)g, (void)gallery;
#endif
  return -1;
}

// One read of memory, 64 bytes at a time as far as they go, with as little as possible done to it.
int64_t read_through(const void* memory, int64_t bytes) {
  const auto* words = static_cast<const uint64_t*>(memory);
  uint64_t seen[8] = {};
  for (int64_t i = 0; i + 8 <= bytes / 8; i += 8) {
    for (int lane = 0; lane < 8; ++lane) seen[lane] |= words[i + lane];
  }
  uint64_t all = 0;
  for (const uint64_t lane : seen) all |= lane;
  return static_cast<int64_t>(all >> 1);
}
}
