// Computes:  items and relevant items per Hamming distance and query: kernels/hamming_histogram.h.
// Algorithm: bit-sliced. The gallery as bit planes (kernels/hamming.h); per query every plane is flipped where the
//            query has a 1, and full adders turn K planes into the digits of the distances of 512 items. A distance is
//            then a mask: a minterm of the three low digits and one of the others, which stands for a group of eight
//            distances and is passed over where it is empty. Eight masks at a time go through carry-save adders, so
//            that one population count serves eight; twice, for all items and for the relevant ones. Above 255 bits
//            there are more masks than items in them: digits are turned to numbers, and counted one by one.
// Memory:    a task (128 queries, 65,536 items at K = 64) makes the planes of its slab, K / 8 bytes an item, unless it
//            is given them, and reads them once per query from the second-level cache. Multi-hot labels: planes for
//            the whole gallery, C / 8 bytes an item, where they are not given.
// Tiling:    slab by block of queries; counts of slabs are added to `out` by atomic additions, which integers allow.
// Numerics:  integers, 64 bits; the same for every level, number of threads, and cut.
// Limits:    K up to 4096; G and Q as large as memory.
// References: Harley and Seal's carry-save population count (Warren, Hacker's Delight, 2nd ed., ch. 5).

#include "kernels/hamming_histogram.h"

#include <atomic>

#include "common/cpu_level.h"
#include "common/intrinsics.h"
#include "common/target_region.h"
#include "kernels/cpu/hamming_problem.h"

namespace rdh::cpu {
namespace {

struct HistogramProblem {
  HammingInputs inputs;
  HammingLabels labels;
  HammingCut cut;
  const int64_t* order;          // of the queries
  const uint64_t* label_planes;  // of multi-hot labels
  int64_t* out;

  void give(int64_t* to, int64_t count) const {
    if (count != 0) std::atomic_ref<int64_t>(*to).fetch_add(count, std::memory_order_relaxed);
  }
};

#define RDH_LEVEL_BODY "kernels/cpu/hamming_histogram_simd.inl"
#include "common/every_bits_level.inl"
#undef RDH_LEVEL_BODY

}  // namespace

bool hamming_histogram(const HammingInputs& inputs, const HammingLabels& labels, int64_t* out,
                       const Parallel& parallel) {
  const int64_t size = inputs.queries * 2 * (inputs.bits + 1);
  std::fill(out, out + size, 0);
  const std::vector<int64_t> order = order_by_label(inputs, labels);
  HistogramProblem problem{inputs, labels, HammingCut(inputs), order.data(), labels.g_planes, out};
  LabelPlanes label_planes;
  if (!label_planes.make(inputs, labels, RDH_AT_LEVEL(make_label_planes), parallel)) return false;
  problem.label_planes = label_planes.get();
  return run_all(parallel, problem.cut.tasks(),
                 [&, task = RDH_AT_LEVEL(run_task)](int64_t index) { return task(problem, index); });
}

}  // namespace rdh::cpu
