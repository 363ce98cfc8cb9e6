// Computes:  the k gallery codes nearest to every query, in the order of (distance, gallery index).
// Algorithm: by counting, any k (hamming_ranks.cuh): items per query, piece of the gallery and distance; prefix sums,
//            which say where each piece's items of a distance stand, and from which distance on (the cut) nothing is
//            wanted; the pairs once more, and every item up to the cut goes to its place. Nothing is sorted, nothing
//            waits for the host.
// Memory:    workspace: counts, 128 (K + 1) bytes for each warp of a pass, at most 8,192 warps and 256 MiB, and 256
//            (K + 1) for each tile of queries: queries go in groups that fit, 768 MiB in all at most (200 at 64 bits).
//            The gallery is read from L2 twice for every 32 queries.
// Tiling:    as the histogram (hamming_scan.cuh); pieces of at least 1,024 items, at most 1,024 of them.
// Floors and predictions, not measured, H200, 64 bits: both passes are popc-bound, 1.85e12 pairs/s each; the second
//            only compares with the cut while k is far below G. Prediction 0.7e12 pairs/s for both; 1,000 x 59,000 in
//            0.12 ms with its launches. Items that are wanted cost two loads and two stores of a sector each, so k = G
//            is bound by memory: 64 bytes per pair, 7e10 pairs/s. Longer codes count in memory: 64 bytes per pair from
//            L2 in the first pass, which popc hides from 600 bits on.
// Numerics:  exact; the same in every run.
// Limits:    any Q, k and K up to 4,096; G up to 2^35 (counts of 32 bits for each of 16 streams); rows at any address.
// References: FAISS's IndexBinaryFlat with use_heap = false, which counts as well, in one pass and up to a k.

#include <cuda_runtime.h>

#include "common/cuda_kernel.h"
#include "kernels/cuda/strides.cuh"
#include "kernels/hamming_topk.h"

namespace rdh::cuda {
namespace {

// clang-format off
#include "kernels/cuda/hamming_codes.cuh"
#include "kernels/cuda/hamming_planes.cuh"
#include "kernels/cuda/hamming_scan.cuh"
#include "kernels/cuda/hamming_ranks.cuh"
// clang-format on

struct Place {
  int64_t k;  // 0 for idle lanes
  int16_t* distances;
  int64_t* indices;

  __device__ __forceinline__ void operator()(int d, int64_t item, int64_t before, int64_t) {
    if (before >= k) return;
    distances[before] = static_cast<int16_t>(d);
    indices[before] = item;
  }
};

template <int W, int Threads>
__global__ void __launch_bounds__(Threads, 6)
    place_kernel(Scan s, Counts c, const int* __restrict__ cuts, int64_t k, int16_t* distances, int64_t* indices) {
  DYN_SMEM(unsigned char, memory);
  const Lane me = Lane::of<Threads>(s);
  if (!me.has_work(s)) return;
  const Place place{me.is_idle ? 0 : k, distances + me.query * k, indices + me.query * k};
  in_order<no_labels, W>(s, c, me, memory, cuts[me.tile * 32 + me.lane], place);
}

Sizes usual_sizes(const HammingInputs& in) { return sizes_for_counts(column_count(in, 1)); }

// Everything in the workspace.
struct Plan {
  Memory memory;
  ScanPlan pairs;
  Groups groups;
  int* cuts;

  Plan(const HammingInputs& in, const Sizes& sizes, void* workspace)
      : memory{static_cast<char*>(workspace)},
        pairs(in, nullptr, sizes, memory),
        groups(pairs, column_count(in, 1), sizes, memory),
        cuts(memory.take<int>(groups.tiles * 32)) {}
};

int64_t topk_workspace(const HammingInputs& in, const Sizes& sizes) { return Plan(in, sizes, nullptr).memory.bytes; }

int topk(const HammingInputs& in, int64_t k, int16_t* distances, int64_t* indices, void* workspace, const Sizes& sizes,
         cudaStream_t stream) {
  if (in.queries == 0 || in.gallery == 0) return cudaSuccess;
  if (in.gallery > most_counted_items) return cudaErrorInvalidValue;
  const Plan plan(in, sizes, workspace);
  plan.pairs.prepare(stream);
  Scan s = plan.pairs.scan;
  for (; s.first_tile < s.partition.tiles; s.first_tile += plan.groups.tiles) {
    s.tiles = least(plan.groups.tiles, s.partition.tiles - s.first_tile);
    count<no_labels>(in, s, plan.groups, k, plan.cuts, stream);
    by_words(in, [&](auto words) {
      constexpr int w = decltype(words)::value;
      LAUNCH((place_kernel<w, scan_threads<w>>), scan_blocks<w>(s), scan_threads<w>,
             (scan_shared_bytes<no_labels, w>(s)), stream, s, plan.groups.counts, plan.cuts, k, distances, indices);
    });
  }
  return cudaGetLastError();
}

}  // namespace

int64_t hamming_topk_workspace(const HammingInputs& inputs, int64_t) {
  return topk_workspace(inputs, usual_sizes(inputs));
}

int launch_hamming_topk(const HammingInputs& inputs, int64_t k, int16_t* distances, int64_t* indices, void* workspace,
                        void* stream) {
  return topk(inputs, k, distances, indices, workspace, usual_sizes(inputs), static_cast<cudaStream_t>(stream));
}

}  // namespace rdh::cuda
