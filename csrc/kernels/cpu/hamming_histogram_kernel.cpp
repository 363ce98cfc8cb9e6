// Computes:  items and relevant items per Hamming distance and query: kernels/hamming_histogram.h.
// Algorithm: bit-sliced. A query adds up lines of 512 bits: the carries of the gallery's bit planes in pairs, of which
//            half of all full adders are, done once (hamming_problem.h), or with few queries the planes, flipped where
//            the query has a 1. What comes out are the digits of the distances of 512 items. A distance is then a
//            mask: a minterm of the three low digits and one of the others, which stands for a group of eight
//            distances and is passed over where it is empty. Masks are counted eight at a time, where counting is no
//            instruction through carry-save adders, so that one population count serves eight; first for all items and
//            then for the relevant ones, as far as there are any. With class ids items are sorted by class, slab by
//            slab: counts do not depend on their order, and most steps then have no relevant item. Above 255 bits
//            there are more masks than items in them: digits are turned to numbers, and counted one by one.
// Memory:    slabs (32,768 items at K = 64) are made ready, up to 64 MiB of them at a time: 2 K / 8 bytes an item,
//            and 4 where they are sorted; a task (128 queries, a slab) reads half of the lines once per query from the
//            second-level cache. With few queries or above 255 bits K / 8 bytes an item, or nothing where planes are
//            given. Multi-hot labels: planes for the whole gallery, C / 8 bytes an item, where they are not given.
// Tiling:    slab by block of queries; a task adds its counts to `out` under a lock of its block.
// Numerics:  integers, 64 bits; the same for every level, number of threads, and cut.
// Limits:    K up to 4096; G and Q as large as memory.
// References: Harley and Seal's carry-save population count (Warren, Hacker's Delight, 2nd ed., ch. 5).

#include "kernels/hamming_histogram.h"

#include <mutex>

#include "common/cpu_level.h"
#include "common/intrinsics.h"
#include "common/target_region.h"
#include "kernels/cpu/hamming_labels.h"
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
  std::mutex* locks;  // of the rows of `out` of a block of queries

  // Slabs that are ready.
  int64_t first_slab, slabs;
  uint64_t* lines;  // null: the planes that came with the gallery do
  int64_t slab_words;
  SortedSlab* sorted;  // null: in the order of the gallery

  uint64_t* lines_of(int64_t place) const { return lines == nullptr ? nullptr : lines + place * slab_words; }

  void give(int64_t block, int64_t query, const uint64_t* counts, int64_t row) const {
    const std::lock_guard<std::mutex> lock(locks[block]);
    int64_t* to = out + query * row;
    for (int64_t i = 0; i < row; ++i) to[i] += static_cast<int64_t>(counts[i]);
  }
};

constexpr int64_t sorted_queries = 64;  // so many pay for the sorting

#define RDH_LEVEL_BODY "kernels/cpu/hamming_histogram_simd.inl"
#include "common/every_bits_level.inl"
#undef RDH_LEVEL_BODY

}  // namespace

bool hamming_histogram(const HammingInputs& inputs, const HammingLabels& labels, int64_t* out,
                       const Parallel& parallel) {
  const int64_t size = inputs.queries * 2 * (inputs.bits + 1);
  std::fill(out, out + size, 0);
  const HammingCut cut(inputs, SlabSize::half);
  if (size == 0 || cut.slabs == 0) return true;
  const std::vector<int64_t> order = order_by_label(inputs, labels);
  std::vector<std::mutex> locks(static_cast<size_t>(cut.blocks));
  HistogramProblem problem{inputs, labels, cut, order.data(), nullptr, out, locks.data(), 0, 0, nullptr, 0, nullptr};
  LabelPlanes label_planes;
  if (!label_planes.make(inputs, labels, RDH_AT_LEVEL(make_label_planes), parallel)) return false;
  problem.label_planes = label_planes.get();

  problem.slab_words = RDH_AT_LEVEL(words_of_slab)(inputs, cut.slab_chunks);
  const bool is_sorted = labels.kind == LabelKind::class_ids && is_carried(inputs) && inputs.queries >= sorted_queries;
  const int64_t words = problem.slab_words + (is_sorted ? cut.slab_items() / 2 : 0);  // the order: four bytes an item
  const int64_t at_once = std::clamp<int64_t>(words_at_once / std::max<int64_t>(1, words), 1, cut.slabs);
  Workspace memory, order_memory;
  memory.add(problem.lines, at_once * problem.slab_words);
  std::vector<SortedSlab> sorted(static_cast<size_t>(is_sorted ? at_once : 0));
  SortedSlab all{};
  order_memory.add(all.item, is_sorted ? at_once * cut.slab_items() : 0);
  order_memory.add(all.first, is_sorted ? at_once * (SortedSlab::keys + 1) : 0);
  order_memory.add(all.id, is_sorted ? at_once * SortedSlab::keys : 0);
  order_memory.add(all.is_shared, is_sorted ? at_once * SortedSlab::keys : 0);
  if (!memory.allocate() || !order_memory.allocate()) return false;
  if (problem.slab_words == 0) problem.lines = nullptr;
  for (int64_t i = 0; i < static_cast<int64_t>(sorted.size()); ++i) {
    sorted[i] = {all.item + i * cut.slab_items(), all.first + i * (SortedSlab::keys + 1), all.id + i * SortedSlab::keys,
                 all.is_shared + i * SortedSlab::keys};
  }
  if (is_sorted) problem.sorted = sorted.data();
  for (; problem.first_slab < cut.slabs; problem.first_slab += at_once) {
    problem.slabs = std::min(at_once, cut.slabs - problem.first_slab);
    if (!run_all(parallel, problem.slabs,
                 [&, prepare = RDH_AT_LEVEL(prepare_slab)](int64_t place) { return prepare(problem, place); }) ||
        !run_all(parallel, problem.slabs * cut.blocks,
                 [&, task = RDH_AT_LEVEL(run_task)](int64_t index) { return task(problem, index); })) {
      return false;
    }
  }
  return true;
}

}  // namespace rdh::cpu
