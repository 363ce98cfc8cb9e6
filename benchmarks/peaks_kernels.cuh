// The kernels of peaks.cu: a copy, fused multiply-adds in registers, and the plain scan of codes. Each leaves a result
// that one thread's share of can be computed on the host as well: a kernel that was optimised away would be wrong.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "common/cuda_kernel.h"
#include "common/host_device.h"

namespace peaks {

constexpr int threads = 256;
constexpr int copies = 4;                        // loads of 16 bytes under way per thread
constexpr int chains = 16;                       // multiply-adds that do not wait for one another
constexpr int repeats = 16;                      // of all chains, to each round of the loop
constexpr int own_codes = 8;                     // codes of a thread, in registers
constexpr int tile = 512;                        // codes in shared memory, which all threads compare with theirs
constexpr float factor = 0.999f, term = 0.001f;  // towards 1: neither overflow nor subnormals

// Every 16 bytes once, by a grid that strides.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    copy_kernel(const uint4* __restrict__ source, uint4* __restrict__ target, int64_t words) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * Threads;
  int64_t i = static_cast<int64_t>(blockIdx.x) * Threads + threadIdx.x;
  for (; i + (copies - 1) * step < words; i += copies * step) {
    uint4 moved[copies];
#pragma unroll
    for (int c = 0; c < copies; ++c) moved[c] = source[i + c * step];
#pragma unroll
    for (int c = 0; c < copies; ++c) target[i + c * step] = moved[c];
  }
  for (; i < words; i += step) target[i] = source[i];
}

RDH_HD float fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return std::fmaf(a, b, c);
#endif
}

// What a thread does in fma_kernel: `rounds` of repeats * chains multiply-adds, and the sum of the chains.
RDH_HD float fma_chains(int64_t thread, float by, float plus, int rounds) {
  float sums[chains];
#pragma unroll
  for (int c = 0; c < chains; ++c) sums[c] = 0.1f * static_cast<float>(c + 1 + static_cast<int>(thread % 7));
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int r = 0; r < repeats; ++r) {
#pragma unroll
      for (int c = 0; c < chains; ++c) sums[c] = fused(sums[c], by, plus);
    }
  }
#pragma unroll
  for (int c = 1; c < chains; ++c) sums[0] += sums[c];
  return sums[0];
}

// `by` and `plus` come from outside: the compiler is not to know where the chains lead.
template <int Threads>
__global__ void __launch_bounds__(Threads) fma_kernel(float by, float plus, int rounds, float* results) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * Threads + threadIdx.x;
  results[thread] = fma_chains(thread, by, plus, rounds);
}

// A code of 32 W bits.
template <int W>
struct alignas(4 * W) Code {
  uint32_t w[W];
};

// The i-th code of those that a seed stands for: no bit of it follows from its neighbours in an obvious way.
template <int W>
RDH_HD Code<W> code_of(uint32_t seed, int64_t i) {
  Code<W> code;
#pragma unroll
  for (int w = 0; w < W; ++w) {
    uint32_t x = (static_cast<uint32_t>(i) * W + static_cast<uint32_t>(w)) * 0x9E3779B9u + seed;
    x = (x ^ x >> 16) * 0x85EBCA6Bu;
    x = (x ^ x >> 13) * 0xC2B2AE35u;
    code.w[w] = x ^ x >> 16;
  }
  return code;
}

constexpr uint32_t tile_seed = 0x243F6A88u, own_seed = 0x13198A2Eu;

// The sum of the distances of a thread's own codes to the codes of the tile, `passes` times.
template <int W, int Threads>
__global__ void __launch_bounds__(Threads) scan_kernel(int passes, uint64_t* results) {
  SHARED(Code<W>, codes, [tile]);
  for (int i = static_cast<int>(threadIdx.x); i < tile; i += Threads) codes[i] = code_of<W>(tile_seed, i);
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * Threads + threadIdx.x;
  Code<W> own[own_codes];
  uint32_t sums[own_codes];
#pragma unroll
  for (int o = 0; o < own_codes; ++o) own[o] = code_of<W>(own_seed, thread * own_codes + o), sums[o] = 0;
  __syncthreads();
  for (int pass = 0; pass < passes; ++pass) {
#pragma unroll 4
    for (int i = 0; i < tile; ++i) {
      const Code<W> code = codes[i];
#pragma unroll
      for (int o = 0; o < own_codes; ++o) {
#pragma unroll
        for (int w = 0; w < W; ++w) sums[o] += static_cast<uint32_t>(__popc(own[o].w[w] ^ code.w[w]));
      }
    }
  }
  uint64_t sum = 0;
#pragma unroll
  for (int o = 0; o < own_codes; ++o) sum += sums[o];
  results[thread] = sum;
}

// The same on the host.
template <int W>
uint64_t scan_of_thread(int64_t thread, int passes) {
  uint64_t sum = 0;
  for (int o = 0; o < own_codes; ++o) {
    const Code<W> own = code_of<W>(own_seed, thread * own_codes + o);
    for (int i = 0; i < tile; ++i) {
      const Code<W> code = code_of<W>(tile_seed, i);
      for (int w = 0; w < W; ++w) sum += static_cast<uint64_t>(__builtin_popcount(own.w[w] ^ code.w[w]));
    }
  }
  return sum * static_cast<uint64_t>(passes);
}

}  // namespace peaks
