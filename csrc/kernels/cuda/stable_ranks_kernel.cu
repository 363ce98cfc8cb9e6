// Computes:  the ranks of the relevant items of every query with ties broken by gallery order, or the sums over them
//            that average precision is made of.
// Algorithm: by counting (hamming_ranks.cuh): items and relevant items per query, piece of the gallery and distance;
//            prefix sums; the pairs once more, where every relevant item knows how many items, and how many relevant
//            ones, stand before it. Ranks of query i begin behind those of queries 0 to i - 1, by the histogram.
// Memory:    workspace: counts, 256 (K + 1) bytes for each warp of a pass, at most 8,192 warps and 256 MiB, and 512
//            (K + 1) for each tile of queries: queries go in groups that fit, 768 MiB in all at most (400 at 64 bits);
//            a sum and a count for each lane; labels as the histogram has them. The gallery is read from L2 twice for
//            every 32 queries.
// Tiling:    as the histogram (hamming_scan.cuh); pieces of at least 1,024 items, at most 1,024 of them.
// Floors and predictions, not measured, H200, 64 bits, class ids: the first pass is that of the histogram, 1.3e12
//            pairs/s. The second has a relevant item in nearly every step of a warp when a tenth is relevant: 4 loads
//            of L2 for each (of 32 lanes at different distances, a sector each) and a store or a division in double,
//            four items' loads under way together: some 700 clocks for 4 x 32 pairs with 24 warps: 4 pairs a clock,
//            0.9e12. Both: 0.5e12. Every relevant item is 160 bytes from L2: a half relevant is 80 bytes per pair,
//            6e10.
// Numerics:  ranks and counts are exact. A term (relevant items up to the rank) / rank is rounded to double; their sum
//            is exact, in integers of 128 bits: it depends on nothing but the terms. No atomics.
// Limits:    any Q, C and K up to 4,096; G up to 2^35 (counts of 32 bits for each of 16 streams), ranks up to 2^40;
//            rows at any address. A histogram of other inputs gives wrong ranks, none of them outside of the result.
// References: kernels/stable_ranks.h.

#include <cuda_runtime.h>

#include <cstring>

#include "common/cuda_kernel.h"
#include "kernels/cuda/strides.cuh"
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
    for (int64_t d = lane; d <= bits; d += 32) {
      const int64_t count = histogram[(i * (bits + 1) + d) * 2 + 1];
      sum += count > 0 ? count : 0;  // or ranks would go astray
    }
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

// A sum of at most 2^35 terms of 2^-40 to 1, exact, in units of 2^-92.
struct Sum {
  uint64_t high = 0, low = 0;

  __device__ __forceinline__ void add(uint64_t high_, uint64_t low_) {
    low += low_;
    high += high_ + (low < low_ ? 1 : 0);
  }
  __device__ __forceinline__ void add(double term) {
    uint64_t bits;
    memcpy(&bits, &term, sizeof bits);
    const int shift = static_cast<int>(bits >> 52) - (1023 + 52 - 2 * sum_digits);  // 0 to 40
    const uint64_t digits = (bits & ((uint64_t{1} << 52) - 1)) | uint64_t{1} << 52;
    add(digits >> 1 >> (63 - shift), digits << shift);
  }
  __device__ __forceinline__ void put(int64_t* parts) const {
    constexpr uint64_t digits = (uint64_t{1} << sum_digits) - 1;
    parts[0] = static_cast<int64_t>(high >> (2 * sum_digits - 64));
    parts[1] = static_cast<int64_t>((high << (64 - sum_digits) | low >> sum_digits) & digits);
    parts[2] = static_cast<int64_t>(low & digits);
  }
};

// What is wanted of relevant items: all ranks, or the sum up to a limit.
struct Wanted {
  const int64_t* offsets;  // of the ranks of each query
  int64_t* ranks;          // or null
  int64_t limit;
  uint64_t* sums;  // of lanes: high, low and how many, [slabs, tiles, 3, 32]
};

struct TakeRank {
  int64_t* ranks;  // of the query
  int64_t room;
  int64_t limit;
  uint64_t found;
  Sum sum;

  __device__ __forceinline__ void operator()(int, int64_t, int64_t before, int64_t relevant_before) {
    const int64_t rank = before + 1;
    if (ranks != nullptr) {
      if (relevant_before < room) ranks[relevant_before] = rank;
    } else if (rank <= limit) {
      sum.add(static_cast<double>(relevant_before + 1) / static_cast<double>(rank));
      ++found;
    }
  }
};

// What other pieces of the gallery have before the items of this one. A warp has a column of a tile at a time.
template <int Threads>
__global__ void __launch_bounds__(Threads) shift_kernel(Scan s, Counts c, const int64_t* __restrict__ shift) {
  const int64_t all = s.tiles * c.columns * 32;
  for (int64_t i = first_item<Threads>(); i < all; i += item_step<Threads>()) {
    const int tile = s.partition.tile, lane = static_cast<int>(i % 32);
    const int64_t query = (s.first_tile + i / 32 / c.columns) * tile + lane % tile;
    if (query < s.queries) c.starts[i] += shift[query * c.columns + i / 32 % c.columns];
  }
}

template <int R, int W, int Threads>
__global__ void __launch_bounds__(Threads, 5) rank_kernel(Scan s, Counts c, Wanted wanted) {
  DYN_SMEM(unsigned char, memory);
  const Lane me = Lane::of<Threads>(s);
  if (!me.has_work(s)) return;
  TakeRank take{nullptr, 0, wanted.limit, 0, {}};
  if (wanted.ranks != nullptr) {
    take.ranks = wanted.ranks + wanted.offsets[me.query];
    take.room = me.is_idle ? 0 : wanted.offsets[me.query + 1] - wanted.offsets[me.query];
  }
  take = in_order<R, W>(s, c, me, memory, 0, take);
  if (wanted.ranks == nullptr) {
    uint64_t* const sums = wanted.sums + me.work * 96 + me.lane;
    sums[0] = take.sum.high;
    sums[32] = take.sum.low;
    sums[64] = take.found;
  }
}

// A warp has a tile: the sums of its lanes over slabs, then over streams.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    totals_kernel(Scan s, const uint64_t* __restrict__ sums, int64_t* total, int64_t* found) {
  const int tile = s.partition.tile, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t own = first_item<Threads>() / 32;
  if (own >= s.tiles) return;
  Sum of_lane, of_query;
  uint64_t found_by_lane = 0, all_found = 0;
#pragma unroll 4
  for (int64_t slab = 0; slab < s.partition.slabs; ++slab) {
    const uint64_t* const from = sums + (slab * s.tiles + own) * 96 + lane;
    of_lane.add(from[0], from[32]);
    found_by_lane += from[64];
  }
  for (int stream = 0; stream < s.partition.streams; ++stream) {
    const int from = stream * tile + lane % tile;
    const uint64_t high = __shfl_sync(0xFFFFFFFFu, of_lane.high, from);
    const uint64_t low = __shfl_sync(0xFFFFFFFFu, of_lane.low, from);
    of_query.add(high, low);
    all_found += __shfl_sync(0xFFFFFFFFu, found_by_lane, from);
  }
  const int64_t query = (s.first_tile + own) * tile + lane;
  if (lane < tile && query < s.queries) {
    of_query.put(total + 3 * query);
    found[query] = static_cast<int64_t>(all_found);
  }
}

template <int Threads>
__global__ void __launch_bounds__(Threads) zero_kernel(int64_t* totals, int64_t* found, int64_t n) {
  for (int64_t i = first_item<Threads>(); i < n; i += item_step<Threads>()) {
    for (int part = 0; part < 3; ++part) totals[3 * i + part] = 0;
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
  uint64_t* sums;

  Plan(const HammingInputs& in, const HammingLabels& labels, const Sizes& sizes, void* workspace)
      : memory{static_cast<char*>(workspace)},
        pairs(in, &labels, sizes, memory),
        groups(pairs, column_count(in, 2), sizes, memory),
        offsets(memory.take<int64_t>(in.queries + 1)),
        sums(memory.take<uint64_t>(groups.tiles * pairs.scan.partition.slabs * 96)) {}
};

// Where the results go: ranks, or totals and their counts.
struct Results {
  int64_t* ranks;
  const int64_t* shift;
  int64_t limit;
  int64_t* total;
  int64_t* found;
};

template <int R>
void ranks_of(const HammingInputs& in, const Plan& plan, const Results& results, cudaStream_t stream) {
  const Wanted wanted{plan.offsets, results.ranks, results.limit, plan.sums};
  Scan s = plan.pairs.scan;
  for (; s.first_tile < s.partition.tiles; s.first_tile += plan.groups.tiles) {
    s.tiles = least(plan.groups.tiles, s.partition.tiles - s.first_tile);
    count<R>(in, s, plan.groups, 0, nullptr, stream);
    if (results.shift != nullptr) {
      const int64_t blocks = divided_up(s.tiles * plan.groups.counts.columns, column_threads / 32);
      LAUNCH((shift_kernel<column_threads>), static_cast<unsigned>(least(blocks, plan.groups.column_blocks)),
             column_threads, 0, stream, s, plan.groups.counts, results.shift);
    }
    by_words(in, [&](auto words) {
      constexpr int w = decltype(words)::value;
      LAUNCH((rank_kernel<R, w, scan_threads<w>>), scan_blocks<w>(s), scan_threads<w>, (scan_shared_bytes<R, w>(s)),
             stream, s, plan.groups.counts, wanted);
    });
    if (results.ranks != nullptr) continue;
    const auto blocks = static_cast<unsigned>(divided_up(s.tiles, column_threads / 32));
    LAUNCH((totals_kernel<column_threads>), blocks, column_threads, 0, stream, s, plan.sums, results.total,
           results.found);
  }
}

void relevant_items(const int64_t* histogram, int64_t queries, int64_t bits, int64_t* offsets, cudaStream_t stream) {
  LAUNCH((relevant_kernel<threads>), blocks_for(queries * 32), threads, 0, stream, histogram, queries, bits, offsets);
  LAUNCH((offsets_kernel<threads>), 1, threads, 0, stream, offsets, queries);
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
  if (results.ranks != nullptr) relevant_items(histogram, in.queries, in.bits, plan.offsets, stream);
  if (labels.kind == LabelKind::class_ids) {
    ranks_of<by_ids>(in, plan, results, stream);
  } else {
    ranks_of<by_planes>(in, plan, results, stream);
  }
  return cudaGetLastError();
}

}  // namespace

int launch_relevant_items(const int64_t* histogram, int64_t queries, int64_t bits, int64_t* offsets, void* stream) {
  relevant_items(histogram, queries, bits, offsets, static_cast<cudaStream_t>(stream));
  return cudaGetLastError();
}

int64_t stable_ranks_workspace(const HammingInputs& inputs, const HammingLabels& labels) {
  return ranks_workspace(inputs, labels, usual_sizes(inputs));
}

int launch_stable_ranks(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram,
                        int64_t* ranks_, void* workspace, void* stream) {
  if (ranks_ == nullptr) return cudaSuccess;  // there are none
  return ranks(inputs, labels, histogram, {ranks_, nullptr, 0, nullptr, nullptr}, workspace, usual_sizes(inputs),
               static_cast<cudaStream_t>(stream));
}

int launch_stable_precision_sum(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram,
                                const int64_t* shift, int64_t limit, int64_t* sum, int64_t* found, void* workspace,
                                void* stream) {
  return ranks(inputs, labels, histogram, {nullptr, shift, limit, sum, found}, workspace, usual_sizes(inputs),
               static_cast<cudaStream_t>(stream));
}

}  // namespace rdh::cuda
