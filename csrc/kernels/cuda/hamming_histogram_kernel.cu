// Computes:  out[i, d, 0] = |{j : d(q_i, g_j) = d}|, out[i, d, 1] those relevant to i.
// Algorithm: hamming_scan.cuh: a lane has a query and a piece of the gallery, and histograms of its own in shared
//            memory, [distance][lane], without bank conflicts, both counts in one word; before 65,536 items they are
//            added to the result. Class ids are compared as they are; of labels the planes of the query's labels are
//            or-ed, 64 items at a time. Codes longer than 128 bits count in the result right away.
// Memory:    workspace: labels of queries as words, Q C / 8 bytes; gallery labels that come as rows as planes, G C / 8
//            (of 4,096 items at a time); long codes of queries as words. The gallery is read from L2 once for every 32
//            queries: 0.25 bytes per pair at 64 bits, 0.5 with class ids of 8 bytes, and for labels 0.5 per label of
//            the query. Warps that run together are at the same place of the gallery.
// Tiling:    4 warps to a block (2 from 65 bits on), 37 KB of shared memory at 64 bits with class ids, 6 blocks to a
//            multiprocessor of an H200: 24 warps. Pieces of at least 1,024 items, up to 12,288 warps.
// Floors and predictions, not measured, H200 (132 multiprocessors, 1.755 GHz), 64 bits, class ids. sm_90 has a pair as
//            2 xor, 2 popc, 1 add, 2 addresses, 2 compares for the class, 2 adds (one of them if relevant), and 3
//            accesses of shared memory: item and class in 16 bytes, bin out, bin in: 14 instructions, and half of one
//            around them. Per clock and multiprocessor: popc 16 / 2 = 8 pairs; issue 128 / 14.5 = 8.8; shared memory
//            32 / 3 = 10.7. So at most 8 pairs, 1.85e12 a second; a bin that is read waits for the one written before,
//            120 clocks for 4 pairs of a lane, which 24 warps hide (25 pairs a clock). Prediction 1.3e12; 10,000
//            queries x 1e8 codes in 0.8 s. Labels (80 classes, 3 to an item): 3 gathers for 64 pairs, 1.5 bytes per
//            pair from L2 in sectors: 0.8e12. 32 bits: bound by issue, 1.4e12; 128 bits: by popc, 0.8e12. Longer codes:
//            two atomics of 8 bytes at most per pair in L2, 1e11, below which popc falls at 1,200 bits.
//            Other ways: adding bits by carry-save over planes costs 6 logic instructions per pair for the distance and
//            8 for the bins: 4.6 pairs a clock. Distances by int8 matrix units (codes as +-1, mma.s8) lift the first
//            bound to 60 pairs a clock; 6 instructions and 2 accesses are left: 16 pairs, 3.7e12, perhaps 2.5e12 in
//            fact. Single bits on the matrix units are emulated from sm_100 on.
// Numerics:  exact integers; atomics of integers: the same in every order.
// Limits:    any Q, G, C; K up to 4,096; rows at any address.
// References: Podlozhnyuk, Histogram calculation in CUDA (2007), for private histograms in shared memory.

#include <cuda_runtime.h>

#include "common/cuda_kernel.h"
#include "kernels/cuda/strides.cuh"
#include "kernels/hamming_histogram.h"

namespace rdh::cuda {
namespace {

// clang-format off
#include "kernels/cuda/hamming_codes.cuh"
#include "kernels/cuda/hamming_planes.cuh"
#include "kernels/cuda/hamming_scan.cuh"
// clang-format on

using Counter = unsigned long long;

template <int Threads>
__global__ void __launch_bounds__(Threads) zero_kernel(Counter* out, int64_t n) {
  for (int64_t i = first_item<Threads>(); i < n; i += item_step<Threads>()) out[i] = 0;
}

// Long codes: too many distances for shared memory.
struct CountInResult {
  Counter* row;
  bool is_idle;

  __device__ __forceinline__ void four(const int (&d)[4], const bool (&relevant)[4], const bool (&there)[4], int64_t) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (!there[j] || is_idle) continue;
      atomicAdd(row + 2 * d[j], Counter{1});
      if (!relevant[j]) continue;
      atomicAdd(row + 2 * d[j] + 1, Counter{1});
    }
  }
};

template <int R, int W, int Threads>
__global__ void __launch_bounds__(Threads, 6) histogram_kernel(Scan s, Counter* out) {
  DYN_SMEM(unsigned char, memory);
  const Lane me = Lane::of<Threads>(s);
  if (!me.has_work(s)) return;
  Counter* const row = out + me.query * 2 * (s.bits + 1);
  if constexpr (W == 0) {
    CountInResult visit{row, me.is_idle};
    scan_long<R>(s, me, reinterpret_cast<LongTile*>(memory)[threadIdx.x / 32], visit);
  } else {
    const Counting<R, W> counting(memory, s, me);
    Tally visit{counting.bins};
    const auto end = [&](int64_t) {
      for (int d = 0; d <= s.bits && !me.is_idle; ++d) {
        const uint32_t count = counting.bins[d];
        if (count == 0) continue;
        atomicAdd(row + 2 * d, Counter{items_in(count)});
        if (relevant_in(count) == 0) continue;
        atomicAdd(row + 2 * d + 1, Counter{relevant_in(count)});
      }
    };
    scan_in_parts<R, W>(s, me, counting, visit, end);
  }
}

constexpr Sizes usual_sizes{12288, 1024, most_flushed_items, most_column_blocks};

template <int R>
void histogram_of(const HammingInputs& in, const Scan& s, Counter* out, cudaStream_t stream) {
  by_words(in, [&](auto words) {
    constexpr int w = decltype(words)::value;
    LAUNCH((histogram_kernel<R, w, scan_threads<w>>), scan_blocks<w>(s), scan_threads<w>, (scan_shared_bytes<R, w>(s)),
           stream, s, out);
  });
}

int64_t histogram_workspace(const HammingInputs& in, const HammingLabels& labels, const Sizes& sizes) {
  Memory memory{nullptr};
  const ScanPlan plan(in, &labels, sizes, memory);
  return memory.bytes;
}

int histogram(const HammingInputs& in, const HammingLabels& labels, int64_t* out_, void* workspace, const Sizes& sizes,
              cudaStream_t stream) {
  if (in.queries == 0) return cudaSuccess;
  const auto out = reinterpret_cast<Counter*>(out_);
  const int64_t counters = in.queries * (in.bits + 1) * 2;
  LAUNCH((zero_kernel<threads>), blocks_for(counters), threads, 0, stream, out, counters);
  if (in.gallery == 0) return cudaGetLastError();
  Memory memory{static_cast<char*>(workspace)};
  const ScanPlan plan(in, &labels, sizes, memory);
  plan.prepare(stream);
  if (labels.kind == LabelKind::class_ids) {
    histogram_of<by_ids>(in, plan.scan, out, stream);
  } else {
    histogram_of<by_planes>(in, plan.scan, out, stream);
  }
  return cudaGetLastError();
}

}  // namespace

int64_t hamming_histogram_workspace(const HammingInputs& inputs, const HammingLabels& labels) {
  return histogram_workspace(inputs, labels, usual_sizes);
}

int launch_hamming_histogram(const HammingInputs& inputs, const HammingLabels& labels, int64_t* out, void* workspace,
                             void* stream) {
  return histogram(inputs, labels, out, workspace, usual_sizes, static_cast<cudaStream_t>(stream));
}

}  // namespace rdh::cuda
