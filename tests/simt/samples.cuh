// Correct kernels of the kinds that kernels are made of, for the tests of the simulator itself: a histogram in shared
// memory, a sum that the last block finishes, and a double buffer filled by cp.async.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda_kernel.h"
#include "common/ptx.cuh"

namespace samples {

// counts[bins] += how often each value of keys[n] occurs
template <int Threads>
__global__ void __launch_bounds__(Threads)
    histogram_kernel(const uint8_t* keys, int64_t n, int bins, unsigned long long* counts) {
  DYN_SMEM(unsigned, local);
  const int me = static_cast<int>(threadIdx.x);
  for (int i = me; i < bins; i += Threads) local[i] = 0;
  __syncthreads();
  for (int64_t i = int64_t{blockIdx.x} * Threads + me; i < n; i += int64_t{gridDim.x} * Threads) {
    atomicAdd(&local[keys[i]], 1u);
  }
  __syncthreads();
  for (int i = me; i < bins; i += Threads) {
    if (local[i] != 0) atomicAdd(&counts[i], static_cast<unsigned long long>(local[i]));
  }
}

// *total = sum of x[n]; partial sums of the blocks in partials[gridDim.x]; ticket is 0 before and after
template <int Threads>
__global__ void __launch_bounds__(Threads)
    sum_kernel(const float* x, int64_t n, float* partials, unsigned* ticket, float* total) {
  static_assert(Threads % 32 == 0);
  SHARED(float, slots, [Threads]);
  SHARED(bool, is_last, );
  const int me = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int64_t i = int64_t{blockIdx.x} * Threads + me; i < n; i += int64_t{gridDim.x} * Threads) sum += x[i];
  for (int round = 0; round < 2; ++round) {
    slots[me] = sum;
    for (int half = Threads / 2; half >= 32; half /= 2) {
      __syncthreads();
      if (me < half) slots[me] += slots[me + half];
    }
    if (me < 32) {
      for (int half = 16; half > 0; half /= 2) {
        __syncwarp();
        if (me < half) slots[me] += slots[me + half];
      }
    }
    if (round == 1) {
      if (me == 0) *total = slots[0];
      return;
    }
    if (me == 0) {
      partials[blockIdx.x] = slots[0];
      __threadfence();
      is_last = atomicAdd(ticket, 1u) == gridDim.x - 1;
      __threadfence();
    }
    __syncthreads();
    if (!is_last) return;
    if (me == 0) *ticket = 0;
    sum = 0;
    for (int i = me; i < static_cast<int>(gridDim.x); i += Threads) sum += partials[i];
  }
}

// out[b, t] = sum over the tiles of row b of x[b, tile, t] * x[b, tile, t + 1], the last place wrapping to the first
template <int Threads>
__global__ void __launch_bounds__(Threads) neighbours_kernel(const float4* x, int tiles, float4* out) {
  namespace ptx = rdh::cuda::ptx;
  SHARED(float4, buffer, [2][Threads]);
  const int me = static_cast<int>(threadIdx.x), next = (me + 1) % Threads;
  const float4* const row = x + int64_t{blockIdx.x} * tiles * Threads + me;
  float4 sum = {0, 0, 0, 0};
  if (tiles > 0) ptx::cp_async<16>(&buffer[0][me], row);
  ptx::cp_async_commit();
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) ptx::cp_async<16>(&buffer[(tile + 1) % 2][me], row + int64_t{tile + 1} * Threads);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncthreads();
    const float4 a = buffer[tile % 2][me], b = buffer[tile % 2][next];
    sum = {sum.x + a.x * b.x, sum.y + a.y * b.y, sum.z + a.z * b.z, sum.w + a.w * b.w};
    __syncthreads();
  }
  out[int64_t{blockIdx.x} * Threads + me] = sum;
}

}  // namespace samples
