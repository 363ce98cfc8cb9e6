// The vector intrinsics of x86, where there are any. Before the first target region of a file.
#pragma once

#include "common/target_region.h"

#if RDH_X86
#if !defined(__clang__)
// the undefined vectors that gcc's own AVX-512 header starts from
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#endif
