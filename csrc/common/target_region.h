// Target regions: code between RDH_TARGET_<LEVEL>_BEGIN and RDH_TARGET_END is compiled for that level, everything else
// for the baseline of the platform. Put no #include of a library header inside: its inline functions would be compiled
// for the level and could be picked by the linker for baseline code (an illegal instruction on older CPUs).
#pragma once

#if defined(__x86_64__)
#define RDH_X86 1
#else
#define RDH_X86 0
#endif

#define RDH_PRAGMA(text) _Pragma(#text)

#if defined(__clang__)
#define RDH_TARGET_AVX2_BEGIN \
  RDH_PRAGMA(clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt"))), apply_to = function))
#define RDH_TARGET_AVX512_BEGIN                                                                    \
  RDH_PRAGMA(clang attribute push(                                                                 \
      __attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl"))), \
      apply_to = function))
#define RDH_TARGET_AVX512VPOPCNTDQ_BEGIN                                                                         \
  RDH_PRAGMA(clang attribute push(                                                                               \
      __attribute__((target(                                                                                     \
          "avx2,fma,f16c,bmi,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vbmi,gfni"))), \
      apply_to = function))
#define RDH_TARGET_END RDH_PRAGMA(clang attribute pop)
#else
#define RDH_TARGET_AVX2_BEGIN RDH_PRAGMA(GCC push_options) RDH_PRAGMA(GCC target("avx2,fma,f16c,bmi,bmi2,popcnt"))
#define RDH_TARGET_AVX512_BEGIN \
  RDH_PRAGMA(GCC push_options)  \
  RDH_PRAGMA(GCC target("avx2,fma,f16c,bmi,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))
#define RDH_TARGET_AVX512VPOPCNTDQ_BEGIN                                                                             \
  RDH_PRAGMA(GCC push_options)                                                                                       \
  RDH_PRAGMA(                                                                                                        \
      GCC target("avx2,fma,f16c,bmi,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vbmi,gfni," \
                 "prefer-vector-width=512"))
#define RDH_TARGET_END RDH_PRAGMA(GCC pop_options)
#endif
