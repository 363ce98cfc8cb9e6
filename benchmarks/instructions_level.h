// For -include before a CPU kernel: fixes its level when it is compiled. valgrind knows no AVX-512, so the kernels are
// counted at AVX2, and what nobody can then call is left out by the compiler, which takes it less than half the time.
#pragma once

#include "common/cpu_level.h"

namespace rdh {

[[gnu::always_inline]] inline CpuLevel active_cpu_level() { return CpuLevel::avx2; }

}  // namespace rdh
