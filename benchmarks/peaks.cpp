// What the arithmetic of this CPU does at most, for the floors of the benchmarks: compiled on the spot and called by
// _peaks.py. Each function runs for about `seconds` on the calling thread; -1 is "not available": this CPU does not
// have the level (1 is AVX2, 2 is AVX-512).

#include <chrono>
#include <cstdint>

#include "common/element.h"
#include "common/host_device.h"
#include "common/intrinsics.h"
#include "common/target_region.h"
#include "kernels/cpu/pairwise_loss_problem.h"

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
}
