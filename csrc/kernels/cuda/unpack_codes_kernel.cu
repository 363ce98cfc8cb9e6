// Computes:  +1 where a bit is set, else -1.
// Algorithm: a thread has four signs of a row, or one.
// Memory:    signs written once, a 32nd of it read: n (4 + 1 / 8) bytes; 16 bytes to a store where K is a multiple of 4
//            and the signs are aligned, else element by element.
// Tiling:    256 threads; neighbours have neighbouring signs; a grid that strides.
// Numerics:  exact.
// Limits:    any N and K. Floor: the traffic; 59,000 x 64 signs are 15.6 MB, 3.2 us at 4.8 TB/s.
// References: kernels/cuda/pack_codes_kernel.cu, whose inverse it is.

#include <cuda_runtime.h>

#include "common/cuda_kernel.h"
#include "kernels/cuda/strides.cuh"
#include "kernels/unpack_codes.h"

namespace rdh::cuda {
namespace {

#include "kernels/cuda/hamming_codes.cuh"

__device__ __forceinline__ float sign_of(unsigned code, int bit) { return code >> bit & 1 ? 1.0f : -1.0f; }

// Together: of the signs of a row, as many as one thread has.
template <int Together, int Threads>
__global__ void __launch_bounds__(Threads)
    unpack_kernel(const uint8_t* __restrict__ codes, int64_t rows, int64_t bits, float* signs) {
  static_assert(Together == 1 || Together == 4);
  const int64_t width = bits / Together, bytes = (bits + 7) / 8, first = first_item<Threads>();
  Walk at(first, item_step<Threads>(), width);
  for (int64_t i = first; i < rows * width; i += item_step<Threads>(), at.next()) {
    const int64_t bit = at.column * Together;
    const unsigned code = codes[at.row * bytes + bit / 8] >> bit % 8;
    if constexpr (Together == 4) {
      reinterpret_cast<float4*>(signs)[i] = {sign_of(code, 0), sign_of(code, 1), sign_of(code, 2), sign_of(code, 3)};
    } else {
      signs[i] = sign_of(code, 0);
    }
  }
}

}  // namespace

int launch_unpack_codes(const uint8_t* codes, int64_t rows, int64_t bits, float* signs, void* stream_) {
  const auto stream = static_cast<cudaStream_t>(stream_);
  if (rows == 0 || bits == 0) return cudaSuccess;
  if (bits % 4 == 0 && is_aligned(signs, 16)) {
    LAUNCH((unpack_kernel<4, threads>), blocks_for(rows * bits / 4), threads, 0, stream, codes, rows, bits, signs);
  } else {
    LAUNCH((unpack_kernel<1, threads>), blocks_for(rows * bits), threads, 0, stream, codes, rows, bits, signs);
  }
  return cudaGetLastError();
}

}  // namespace rdh::cuda
