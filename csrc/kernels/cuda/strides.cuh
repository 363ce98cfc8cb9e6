// Sizes of launches, and the way of kernels that stride: thread i of all takes items i, i + threads, i + 2 threads, ...
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rdh::cuda {

inline int64_t divided_up(int64_t n, int64_t by) { return (n + by - 1) / by; }
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t greatest(int64_t a, int64_t b) { return a < b ? b : a; }

template <int Threads>
__device__ __forceinline__ int64_t first_item() {
  return int64_t{blockIdx.x} * Threads + static_cast<int>(threadIdx.x);
}
template <int Threads>
__device__ __forceinline__ int64_t item_step() {
  return int64_t{gridDim.x} * Threads;
}

}  // namespace rdh::cuda
