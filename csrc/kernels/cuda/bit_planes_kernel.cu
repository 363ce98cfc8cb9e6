// Computes:  bit planes of packed codes; the format is in kernels/hamming.h.
// Algorithm: hamming_planes.cuh: a warp transposes 32 x 32 bits in five exchanges.
// Memory:    codes read once, as many bytes written (of whole chunks of 4,096 items); whole cache lines both ways.
// Tiling:    256 threads have 512 items by 32 bits; 2.3 KB of shared memory.
// Numerics:  exact.
// Limits:    any N, K up to 4,096. Nothing on CUDA reads planes of codes: they are for galleries that go to a CPU.
// References: kernels/hamming.h.

#include <cuda_runtime.h>

#include "common/cuda_kernel.h"
#include "kernels/bit_planes.h"
#include "kernels/cuda/strides.cuh"
#include "kernels/hamming.h"

namespace rdh::cuda {
namespace {

#include "kernels/cuda/hamming_codes.cuh"
// behind the codes
#include "kernels/cuda/hamming_planes.cuh"

}  // namespace

int launch_bit_planes(const uint8_t* codes, int64_t rows, int64_t bytes, int64_t bits, uint64_t* planes, void* stream) {
  const Rows<true> source{codes, bytes, bytes % 4 == 0 && is_aligned(codes, 4)};
  make_planes(source, rows, bits, planes, static_cast<cudaStream_t>(stream));
  return cudaGetLastError();
}

}  // namespace rdh::cuda
