#include "common/cpu_level.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "common/target_region.h"

namespace rdh {
namespace {

CpuLevel detect() {
#if RDH_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                    __builtin_cpu_supports("popcnt");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool counts = __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vbmi") &&
                      __builtin_cpu_supports("gfni");
  if (avx512 && counts) return CpuLevel::avx512vpopcntdq;
  if (avx512) return CpuLevel::avx512;
  if (avx2) return CpuLevel::avx2;  // every CPU with AVX2 has F16C
#endif
  return CpuLevel::scalar;
}

CpuLevel default_level() {
  const CpuLevel supported = supported_cpu_level();
  const char* wish = std::getenv("RDH_EXT_CPU_LEVEL");
  if (wish == nullptr) return supported;
  CpuLevel level = supported;
  if (std::strcmp(wish, "scalar") == 0) level = CpuLevel::scalar;
  if (std::strcmp(wish, "avx2") == 0) level = CpuLevel::avx2;
  if (std::strcmp(wish, "avx512") == 0) level = CpuLevel::avx512;
  return level < supported ? level : supported;
}

std::atomic<int> forced{-1};

}  // namespace

CpuLevel supported_cpu_level() {
  static const CpuLevel level = detect();
  return level;
}

CpuLevel active_cpu_level() {
  const int level = forced.load(std::memory_order_relaxed);
  if (level >= 0) return static_cast<CpuLevel>(level);
  static const CpuLevel fallback = default_level();
  return fallback;
}

}  // namespace rdh

#define RDH_EXPORT __attribute__((visibility("default")))

extern "C" {

RDH_EXPORT int rdh_ext_supported_cpu_level() { return static_cast<int>(rdh::supported_cpu_level()); }

RDH_EXPORT int rdh_ext_active_cpu_level() { return static_cast<int>(rdh::active_cpu_level()); }

RDH_EXPORT int rdh_ext_force_cpu_level(int level) {
  if (level < -1 || level > rdh_ext_supported_cpu_level()) return 0;
  rdh::forced.store(level, std::memory_order_relaxed);
  return 1;
}
}
