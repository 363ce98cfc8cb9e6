// Computes:  the ranks of the relevant items of every query with ties broken by gallery order, or the sums over them
// that
//            average precision is made of.
// Algorithm: by counting (hamming_ranks.cuh): items and relevant items per query, piece of the gallery and distance;
//            prefix sums; the pairs once more, where every relevant item knows how many items, and how many relevant
//            ones, stand before it. Ranks of query i begin behind those of queries 0 to i - 1, by the histogram.
// Memory:    workspace: counts, 256 (K + 1) bytes for each warp of a pass, at most 8,192 warps and 256 MiB: queries go
//            in groups that fit; one sum and one count for each lane; labels as the histogram has them. The gallery is
//            read from L2 twice for every 32 queries.
// Tiling:    as the histogram (hamming_scan.cuh); pieces of at least 1,024 items, at most 1,024 of them.
// Floors and predictions, not measured, H200, 64 bits, class ids: the first pass is that of the histogram, 1.3e12
//            pairs/s. The second has a relevant item in nearly every step of a warp when a tenth is relevant: 4 loads
//            of L2 for each (of 32 lanes at different distances, a sector each) and a store or a division in double,
//            four items' loads under way together: some 700 clocks for 4 x 32 pairs with 24 warps: 4 pairs a clock,
//            0.9e12. Both: 0.5e12. Every relevant item is 160 bytes from L2: a half relevant is 80 bytes per pair,
//            6e10.
// Numerics:  ranks and counts are exact. Terms (relevant items up to the rank) / rank are rounded once to double; a
// lane
//            adds those of its piece in gallery order, then the slabs of its stream are added in order, then the
//            streams: which they are depends on Q, G and K and on nothing else. No atomics.
// Limits:    any Q, C and K up to 4,096; G up to 2^35 (counts of 32 bits for each of 16 streams); rows at any address.
//            A histogram of other inputs gives wrong ranks, none of them outside of the result.
// References: kernels/stable_ranks.h.

#include <cuda_runtime.h>

#include "common/cuda_kernel.h"
#include "kernels/stable_ranks.h"

namespace rdh::cuda {
namespace {

// clang-format off
#include "kernels/cuda/hamming_codes.cuh"
#include "kernels/cuda/hamming_planes.cuh"
#include "kernels/cuda/hamming_scan.cuh"
#include "kernels/cuda/hamming_ranks.cuh"
// clang-format on

// A warp has a query: relevant[i] is the number of its relevant items.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    relevant_kernel(const int64_t* __restrict__ histogram, int64_t queries, int64_t bits, int64_t* relevant) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int64_t i = first_item<Threads>() / 32; i < queries; i += item_step<Threads>() / 32) {
    int64_t sum = 0;
    for (int64_t d = lane; d <= bits; d += 32) sum += histogram[(i * (bits + 1) + d) * 2 + 1];
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xFFFFFFFFu, sum, offset);
    if (lane == 0) relevant[i] = sum;
  }
}

// One block: offsets[i] becomes the sum of what stood before it, offsets[queries] of all.
template <int Threads>
__global__ void __launch_bounds__(Threads) offsets_kernel(int64_t* offsets, int64_t queries) {
  SHARED(int64_t, of_warps, [Threads / 32]);
  const int me = static_cast<int>(threadIdx.x), lane = me % 32, warp = me / 32;
  int64_t before = 0;
  for (int64_t first = 0; first < queries; first += Threads) {
    const int64_t own = first + me < queries ? offsets[first + me] : 0;
    int64_t up_to = own;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const int64_t earlier = __shfl_up_sync(0xFFFFFFFFu, up_to, static_cast<unsigned>(offset));
      if (lane >= offset) up_to += earlier;
    }
    if (lane == 31) of_warps[warp] = up_to;
    __syncthreads();
    int64_t all = 0;
    for (int i = 0; i < Threads / 32; ++i) {
      if (i < warp) up_to += of_warps[i];
      all += of_warps[i];
    }
    __syncthreads();
    if (first + me < queries) offsets[first + me] = before + up_to - own;
    before += all;
  }
  if (me == 0) offsets[queries] = before;
}

// What is wanted of relevant items: all ranks, or the sum up to a limit.
struct Wanted {
  const int64_t* offsets;  // of the ranks of each query
  int64_t* ranks;          // or null
  int64_t limit;
  double* totals;  // of lanes: [slabs, tiles, 32]
  int64_t* found;
};

struct TakeRank {
  int64_t* ranks;  // of the query
  int64_t room;
  int64_t limit, found;
  double total;

  __device__ __forceinline__ void operator()(int, int64_t, int64_t before, int64_t relevant_before) {
    const int64_t rank = before + 1;
    if (ranks != nullptr) {
      if (relevant_before < room) ranks[relevant_before] = rank;
    } else if (rank <= limit) {
      total += static_cast<double>(relevant_before + 1) / static_cast<double>(rank);
      ++found;
    }
  }
};

template <int R, int W, int Threads>
__global__ void __launch_bounds__(Threads, 5) rank_kernel(Scan s, Counts c, Wanted wanted) {
  DYN_SMEM(unsigned char, memory);
  const Lane me = Lane::of<Threads>(s);
  if (!me.has_work(s)) return;
  TakeRank take{nullptr, 0, wanted.limit, 0, 0.0};
  if (wanted.ranks != nullptr) {
    take.ranks = wanted.ranks + wanted.offsets[me.query];
    take.room = me.is_idle ? 0 : wanted.offsets[me.query + 1] - wanted.offsets[me.query];
  }
  take = in_order<R, W>(s, c, me, memory, 0, take);
  if (wanted.ranks == nullptr) {
    wanted.totals[me.work * 32 + me.lane] = take.total;
    wanted.found[me.work * 32 + me.lane] = take.found;
  }
}

// A warp has a tile: the lanes' sums over slabs, then over streams, always in the same order.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    totals_kernel(Scan s, const double* __restrict__ totals, const int64_t* __restrict__ found, double* total_out,
                  int64_t* found_out) {
  const int tile = s.partition.tile, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t own = first_item<Threads>() / 32, stride = s.tiles * 32;
  if (own >= s.tiles) return;
  double of_lane = 0, total = 0;
  int64_t found_of_lane = 0, all_found = 0;
#pragma unroll 4
  for (int64_t slab = 0; slab < s.partition.slabs; ++slab) {
    of_lane += totals[slab * stride + own * 32 + lane];
    found_of_lane += found[slab * stride + own * 32 + lane];
  }
  for (int stream = 0; stream < s.partition.streams; ++stream) {
    total += __shfl_sync(0xFFFFFFFFu, of_lane, stream * tile + lane % tile);
    all_found += __shfl_sync(0xFFFFFFFFu, found_of_lane, stream * tile + lane % tile);
  }
  const int64_t query = (s.first_tile + own) * tile + lane;
  if (lane < tile && query < s.queries) {
    total_out[query] = total;
    found_out[query] = all_found;
  }
}

template <int Threads>
__global__ void __launch_bounds__(Threads) zero_kernel(double* totals, int64_t* found, int64_t n) {
  for (int64_t i = first_item<Threads>(); i < n; i += item_step<Threads>()) {
    totals[i] = 0;
    found[i] = 0;
  }
}

Sizes usual_sizes(const HammingInputs& in) { return sizes_for_counts(column_count(in, 2)); }

// Everything in the workspace.
struct Plan {
  Memory memory;
  ScanPlan pairs;
  Groups groups;
  int64_t* offsets;
  double* totals;
  int64_t* found;

  Plan(const HammingInputs& in, const HammingLabels& labels, const Sizes& sizes, void* workspace)
      : memory{static_cast<char*>(workspace)},
        pairs(in, &labels, sizes, memory),
        groups(pairs, column_count(in, 2), sizes, memory),
        offsets(memory.take<int64_t>(in.queries + 1)) {
    const int64_t lanes = groups.tiles * pairs.scan.partition.slabs * 32;
    totals = memory.take<double>(lanes);
    found = memory.take<int64_t>(lanes);
  }
};

// Where the results go: ranks, or totals and their counts.
struct Results {
  int64_t* ranks;
  int64_t limit;
  double* total;
  int64_t* found;
};

template <int R>
void ranks_of(const HammingInputs& in, const Plan& plan, const Results& results, cudaStream_t stream) {
  const Wanted wanted{plan.offsets, results.ranks, results.limit, plan.totals, plan.found};
  Scan s = plan.pairs.scan;
  for (; s.first_tile < s.partition.tiles; s.first_tile += plan.groups.tiles) {
    s.tiles = least(plan.groups.tiles, s.partition.tiles - s.first_tile);
    count<R>(in, s, plan.groups, 0, nullptr, stream);
    by_words(in, [&](auto words) {
      constexpr int w = decltype(words)::value;
      LAUNCH((rank_kernel<R, w, scan_threads<w>>), scan_blocks<w>(s), scan_threads<w>, (scan_shared_bytes<R, w>(s)),
             stream, s, plan.groups.counts, wanted);
    });
    if (results.ranks != nullptr) continue;
    const auto blocks = static_cast<unsigned>(divided_up(s.tiles, threads / 32));
    LAUNCH((totals_kernel<threads>), blocks, threads, 0, stream, s, plan.totals, plan.found, results.total,
           results.found);
  }
}

int64_t ranks_workspace(const HammingInputs& in, const HammingLabels& labels, const Sizes& sizes) {
  return Plan(in, labels, sizes, nullptr).memory.bytes;
}

int ranks(const HammingInputs& in, const HammingLabels& labels, const int64_t* histogram, const Results& results,
          void* workspace, const Sizes& sizes, cudaStream_t stream) {
  if (in.queries == 0) return cudaSuccess;
  if (in.gallery > most_counted_items) return cudaErrorInvalidValue;
  if (in.gallery == 0) {
    if (results.ranks == nullptr) {
      LAUNCH((zero_kernel<threads>), blocks_for(in.queries), threads, 0, stream, results.total, results.found,
             in.queries);
    }
    return cudaGetLastError();
  }
  const Plan plan(in, labels, sizes, workspace);
  plan.pairs.prepare(stream);
  if (results.ranks != nullptr) {
    LAUNCH((relevant_kernel<threads>), blocks_for(in.queries * 32), threads, 0, stream, histogram, in.queries, in.bits,
           plan.offsets);
    LAUNCH((offsets_kernel<threads>), 1, threads, 0, stream, plan.offsets, in.queries);
  }
  if (labels.kind == LabelKind::class_ids) {
    ranks_of<by_ids>(in, plan, results, stream);
  } else {
    ranks_of<by_planes>(in, plan, results, stream);
  }
  return cudaGetLastError();
}

}  // namespace

int64_t stable_ranks_workspace(const HammingInputs& inputs, const HammingLabels& labels) {
  return ranks_workspace(inputs, labels, usual_sizes(inputs));
}

int launch_stable_ranks(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram,
                        int64_t* ranks_, void* workspace, void* stream) {
  if (ranks_ == nullptr) return cudaSuccess;  // there are none
  return ranks(inputs, labels, histogram, {ranks_, 0, nullptr, nullptr}, workspace, usual_sizes(inputs),
               static_cast<cudaStream_t>(stream));
}

int launch_stable_precision_sum(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram,
                                int64_t limit, double* total, int64_t* found, void* workspace, void* stream) {
  return ranks(inputs, labels, histogram, {nullptr, limit, total, found}, workspace, usual_sizes(inputs),
               static_cast<cudaStream_t>(stream));
}

}  // namespace rdh::cuda
