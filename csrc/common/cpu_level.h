// Which instruction set the CPU kernels use: detected once, lowered by RDH_EXT_CPU_LEVEL, forced by tests.
#pragma once

#include <cstdint>

namespace rdh {

// avx512 needs F, BW, DQ and VL; the last one VPOPCNTDQ, VBMI and GFNI, too, which came together (Ice Lake, Zen 4), and
// which most kernels have no use for.
enum class CpuLevel : int { scalar = 0, avx2 = 1, avx512 = 2, avx512vpopcntdq = 3 };

// The highest level that this CPU and this build can run.
CpuLevel supported_cpu_level();

// The level that kernels use now: the forced one, else RDH_EXT_CPU_LEVEL (never above the supported one), else the
// supported.
CpuLevel active_cpu_level();

}  // namespace rdh

extern "C" {
// The same over the C ABI, looked up by name in the loaded op library by the introspection module.
int rdh_ext_supported_cpu_level();
int rdh_ext_active_cpu_level();
// Forces a level for the whole process; -1 goes back to the default. Returns 0 where the CPU cannot run it.
int rdh_ext_force_cpu_level(int level);
}
