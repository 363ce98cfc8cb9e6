// Formulas shared by CPU and CUDA kernels are marked RDH_HD; outside nvcc the mark is empty.
#pragma once

#if defined(__CUDACC__)
#define RDH_HD __host__ __device__ __forceinline__
#else
#define RDH_HD inline
#endif
