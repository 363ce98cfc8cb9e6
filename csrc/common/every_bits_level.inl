// Includes RDH_LEVEL_BODY, the name of a file, once for every level that the platform has, inside a namespace and a
// target region of that level, with the level's Bits. RDH_AT_LEVEL(name) is then what the active level has by that
// name. RDH_LOWEST_LEVEL_ONLY leaves out all but one: sanitizers take minutes to compile the others.

namespace scalar {
#include "common/bits_portable.inl"
#include RDH_LEVEL_BODY
}  // namespace scalar

#if RDH_X86 && !defined(RDH_LOWEST_LEVEL_ONLY)
RDH_TARGET_AVX2_BEGIN
namespace avx2 {
#include "common/bits_avx2.inl"
#include RDH_LEVEL_BODY
}  // namespace avx2
RDH_TARGET_END

RDH_TARGET_AVX512_BEGIN
namespace avx512 {
#define RDH_VPOPCNTDQ 0
#include "common/bits_avx512.inl"
#undef RDH_VPOPCNTDQ
#include RDH_LEVEL_BODY
}  // namespace avx512
RDH_TARGET_END

RDH_TARGET_AVX512VPOPCNTDQ_BEGIN
namespace avx512vpopcntdq {
#define RDH_VPOPCNTDQ 1
#include "common/bits_avx512.inl"
#undef RDH_VPOPCNTDQ
#include RDH_LEVEL_BODY
}  // namespace avx512vpopcntdq
RDH_TARGET_END

#define RDH_AT_LEVEL(name)                                                 \
  (active_cpu_level() == CpuLevel::avx512vpopcntdq ? avx512vpopcntdq::name \
   : active_cpu_level() == CpuLevel::avx512        ? avx512::name          \
   : active_cpu_level() == CpuLevel::avx2          ? avx2::name            \
                                                   : scalar::name)
#else
#define RDH_AT_LEVEL(name) scalar::name
#endif
