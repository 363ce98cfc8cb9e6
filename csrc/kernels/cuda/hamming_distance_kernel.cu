// Computes:  out[i, j] = popcount(q_i xor g_j), int16.
// Algorithm: codes of at most 128 bits (W words, 1, 2 or 4): a thread keeps two gallery codes in registers and goes
//            over the queries of its block, which lie in shared memory. Longer ones: eight words at a time, 128 items
//            and 8 queries to a block, sums in registers.
// Memory:    2 bytes per pair written, in whole lines; g read once for every 64 queries (8 for long codes).
// Tiling:    256 threads, 512 items x 64 queries; long codes: 128 threads, 128 x 8.
// Numerics:  exact.
// Limits:    any Q, G and K up to 4,096; rows at any address. Floors on an H200 at 64 bits: 2.4e12 pairs/s to write
//            them at 4.8 TB/s; 1.85e12 to count them (16 popc per clock and multiprocessor). Prediction: 1.4e12.
// References: none.

#include <cuda_runtime.h>

#include "common/cuda_kernel.h"
#include "kernels/cuda/strides.cuh"
#include "kernels/hamming_distance.h"

namespace rdh::cuda {
namespace {

#include "kernels/cuda/hamming_codes.cuh"

constexpr int queries_of_block = 64, items_of_thread = 2;

struct Pairs {
  const uint8_t *q, *g;
  int64_t queries, gallery;
  int bytes;
  bool q_as_words, g_as_words;
  int64_t blocks_across;  // of items, for each tile of queries
};

template <int W, int Threads>
__global__ void __launch_bounds__(Threads) distance_kernel(Pairs pairs, int16_t* out) {
  SHARED(Words<W>, codes, [queries_of_block]);
  const int me = static_cast<int>(threadIdx.x);
  const int64_t down = blockIdx.x / pairs.blocks_across, across = blockIdx.x - down * pairs.blocks_across;
  const int64_t query = down * queries_of_block, item = across * Threads * items_of_thread + me;
  const int64_t left = pairs.queries - query;
  const int queries = static_cast<int>(left < queries_of_block ? left : queries_of_block);
  for (int i = me; i < queries; i += Threads) {
    codes[i] = load_words<W>(pairs.q + (query + i) * pairs.bytes, pairs.bytes, pairs.q_as_words);
  }
  Words<W> own[items_of_thread] = {};
#pragma unroll
  for (int j = 0; j < items_of_thread; ++j) {
    const int64_t at = item + j * Threads;
    if (at < pairs.gallery) own[j] = load_words<W>(pairs.g + at * pairs.bytes, pairs.bytes, pairs.g_as_words);
  }
  __syncthreads();
#pragma unroll 4
  for (int i = 0; i < queries; ++i) {
    const Words<W> code = codes[i];
#pragma unroll
    for (int j = 0; j < items_of_thread; ++j) {
      const int64_t at = item + j * Threads;
      if (at < pairs.gallery) out[(query + i) * pairs.gallery + at] = static_cast<int16_t>(distance(code, own[j]));
    }
  }
}

constexpr int wide_threads = 128, wide_queries = 8, wide_words = 8;

template <int Threads>
__global__ void __launch_bounds__(Threads) wide_distance_kernel(Pairs pairs, int16_t* out) {
  SHARED(uint32_t, items, [wide_words][Threads + 4]);  // 4: 4 items x 8 words of a warp go to banks of their own
  SHARED(uint32_t, codes, [wide_words][wide_queries]);
  const int me = static_cast<int>(threadIdx.x);
  const int64_t down = blockIdx.x / pairs.blocks_across, across = blockIdx.x - down * pairs.blocks_across;
  const int64_t query = down * wide_queries, first = across * Threads;
  int sums[wide_queries] = {};
  for (int word = 0; 4 * word < pairs.bytes; word += wide_words) {
    __syncthreads();
    for (int i = me; i < wide_words * Threads; i += Threads) {
      const int64_t item = first + i / wide_words;
      const int w = i % wide_words;
      const bool there = item < pairs.gallery && 4 * (word + w) < pairs.bytes;
      items[w][i / wide_words] =
          there ? load_word(pairs.g + item * pairs.bytes, pairs.bytes, word + w, pairs.g_as_words) : 0;
    }
    for (int i = me; i < wide_words * wide_queries; i += Threads) {
      const int64_t at = query + i / wide_words;
      const int w = i % wide_words;
      const bool there = at < pairs.queries && 4 * (word + w) < pairs.bytes;
      codes[w][i / wide_words] =
          there ? load_word(pairs.q + at * pairs.bytes, pairs.bytes, word + w, pairs.q_as_words) : 0;
    }
    __syncthreads();
#pragma unroll
    for (int w = 0; w < wide_words; ++w) {
      const uint32_t own = items[w][me];
#pragma unroll
      for (int i = 0; i < wide_queries; ++i) sums[i] += __popc(codes[w][i] ^ own);
    }
  }
  const int64_t item = first + me;
#pragma unroll
  for (int i = 0; i < wide_queries; ++i) {
    if (item < pairs.gallery && query + i < pairs.queries) {
      out[(query + i) * pairs.gallery + item] = static_cast<int16_t>(sums[i]);
    }
  }
}

unsigned grid_of(Pairs& pairs, int64_t items, int64_t queries) {
  pairs.blocks_across = divided_up(pairs.gallery, items);
  return static_cast<unsigned>(pairs.blocks_across * divided_up(pairs.queries, queries));
}

template <int W>
void distances_as(Pairs pairs, int16_t* out, cudaStream_t stream) {
  pairs.q_as_words = are_words<W>(pairs.q, pairs.bytes);
  pairs.g_as_words = are_words<W>(pairs.g, pairs.bytes);
  const unsigned grid = grid_of(pairs, threads * items_of_thread, queries_of_block);
  LAUNCH((distance_kernel<W, threads>), grid, threads, 0, stream, pairs, out);
}

void wide_distances(Pairs pairs, int16_t* out, cudaStream_t stream) {
  pairs.q_as_words = pairs.bytes % 4 == 0 && is_aligned(pairs.q, 4);
  pairs.g_as_words = pairs.bytes % 4 == 0 && is_aligned(pairs.g, 4);
  const unsigned grid = grid_of(pairs, wide_threads, wide_queries);
  LAUNCH((wide_distance_kernel<wide_threads>), grid, wide_threads, 0, stream, pairs, out);
}

}  // namespace

int launch_hamming_distance(const HammingInputs& inputs, int16_t* out, void* stream_) {
  const auto stream = static_cast<cudaStream_t>(stream_);
  if (inputs.queries == 0 || inputs.gallery == 0) return cudaSuccess;
  const Pairs pairs{inputs.q, inputs.g, inputs.queries, inputs.gallery, static_cast<int>(inputs.bytes), false,
                    false,    0};
  if (inputs.bytes <= 4) {
    distances_as<1>(pairs, out, stream);
  } else if (inputs.bytes <= 8) {
    distances_as<2>(pairs, out, stream);
  } else if (inputs.bytes <= 16) {
    distances_as<4>(pairs, out, stream);
  } else {
    wide_distances(pairs, out, stream);
  }
  return cudaGetLastError();
}

}  // namespace rdh::cuda
