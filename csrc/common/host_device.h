// Formulas that CPU and CUDA kernels share are marked RDH_HD. Always inline: what runs once per vector would pass
// vectors, and the constants of its loop, through memory.
#pragma once

#if defined(__CUDACC__)
#define RDH_HD __host__ __device__ __forceinline__
#else
#define RDH_HD __attribute__((always_inline)) inline
#endif
