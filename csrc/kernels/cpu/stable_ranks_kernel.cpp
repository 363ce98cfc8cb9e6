// Computes:  ranks of relevant items with ties in gallery order, or the sum of precisions at them:
//            kernels/stable_ranks.h.
// Algorithm: the histogram says how many items come before the first one at a distance, and at which distances there
//            are relevant items at all; from there on the items at these are counted along the gallery. Distances as
//            masks, like in hamming_histogram_kernel.cpp; a lane of the planes is eight runs of 64 items, so that the
//            population counts of a mask, summed register by register and then over lanes, say what rank the last item
//            of each run has. A relevant item goes back from there by those of its run that stand behind it, found by
//            one comparison of distances as bytes. Above 255 bits: a number per distance, counted up item by item.
// Memory:    the lines of the gallery (hamming_problem.h), 2 K / 8 bytes an item, are made once where they take at most
//            64 MiB, else slab by slab in every task; with few queries planes, K / 8 bytes an item, unless they are
//            given. 16 (K + 1) bytes per query, 520 (K + 1) per task. Few queries: the gallery in parts, and the
//            histogram of each, 16 (K + 1) bytes per query and part.
// Tiling:    blocks of 128 queries by parts of the gallery; 4,096 items at a time.
// Numerics:  ranks are integers. Precisions are quotients of doubles, which hold ranks exactly up to 2^53; their sum is
//            exact (kernels/stable_ranks.h): it depends on nothing but the terms.
// Limits:    K up to 4096.

#include "kernels/stable_ranks.h"

#include <limits>

#include "common/cpu_level.h"
#include "common/intrinsics.h"
#include "common/target_region.h"
#include "kernels/cpu/hamming_labels.h"
#include "kernels/cpu/hamming_problem.h"
#include "kernels/hamming_histogram.h"

namespace rdh::cpu {
namespace {

// In units of 2^-92, 128 bits.
struct ExactSum {
  uint64_t high = 0, low = 0;

  void add(const ExactSum& other) {
    low += other.low;
    high += other.high + (low < other.low ? 1 : 0);
  }
  // coarse 2^-46 + fine 2^-92, of which the second may be negative.
  void add(int64_t coarse, int64_t fine) {
    const auto c = static_cast<uint64_t>(coarse);
    add({c >> (64 - sum_digits), c << sum_digits});
    add({fine < 0 ? ~uint64_t{0} : 0, static_cast<uint64_t>(fine)});
  }
  void put(int64_t* parts) const {
    constexpr uint64_t digits = (uint64_t{1} << sum_digits) - 1;
    parts[0] = static_cast<int64_t>(high >> (2 * sum_digits - 64));
    parts[1] = static_cast<int64_t>((high << (64 - sum_digits) | low >> sum_digits) & digits);
    parts[2] = static_cast<int64_t>(low & digits);
  }
};

struct RanksProblem {
  HammingInputs inputs;
  HammingLabels labels;
  HammingCut cut;
  HammingParts parts;
  const SharedLines* lines = nullptr;
  const int64_t* order = nullptr;            // of the queries
  const uint64_t* label_planes = nullptr;    // of multi-hot labels
  const int64_t* histogram = nullptr;        // of the whole gallery
  const int64_t* part_histograms = nullptr;  // [parts, queries, bits + 1, 2], where there are several
  const int64_t* shift = nullptr;            // of ranks, or null
  int64_t limit = 0;
  bool is_unlimited = false;            // no rank is beyond the limit
  ExactSum* sums = nullptr;             // [parts, queries], where precisions are wanted
  int64_t* within = nullptr;            // [parts, queries]
  int64_t* ranks = nullptr;             // where they are wanted
  const int64_t* first_rank = nullptr;  // of a query, [queries + 1]

  int64_t row() const { return 2 * (inputs.bits + 1); }

  // What ranks before the first item of the part at each distance.
  void start(int64_t part, int64_t query, int64_t* all, int64_t* relevant) const {
    const int64_t* counts = histogram + query * row();
    int64_t closer = 0, closer_relevant = 0;
    for (int64_t d = 0; d <= inputs.bits; ++d) {
      all[d] = closer;
      relevant[d] = closer_relevant;
      closer += counts[2 * d];
      closer_relevant += counts[2 * d + 1];
    }
    for (int64_t earlier = 0; earlier < part; ++earlier) {
      const int64_t* of_part = part_histograms + (earlier * inputs.queries + query) * row();
      add(of_part, all, relevant);
    }
    if (shift != nullptr) add(shift + query * row(), all, relevant);
  }

  void add(const int64_t* counts, int64_t* all, int64_t* relevant) const {
    for (int64_t d = 0; d <= inputs.bits; ++d) {
      all[d] += counts[2 * d];
      relevant[d] += counts[2 * d + 1];
    }
  }

  // The distances at which the query has relevant items, eight in a byte.
  void ask(int64_t query, uint8_t* asked) const {
    const int64_t* counts = histogram + query * row();
    std::fill(asked, asked + inputs.bits / 8 + 1, uint8_t{0});
    for (int64_t d = 0; d <= inputs.bits; ++d) {
      if (counts[2 * d + 1] != 0) asked[d / 8] |= static_cast<uint8_t>(1 << d % 8);
    }
  }

  // A histogram of something else would count beyond the query's places.
  void put_ranks(int64_t query, const int64_t* minus_rank, const int64_t* relevant_rank, int64_t n) const {
    const int64_t first = first_rank[query], places = first_rank[query + 1] - first;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t place = relevant_rank[i] - 1;
      if (place >= 0 && place < places) ranks[first + place] = -minus_rank[i];
    }
  }
};

#define RDH_LEVEL_BODY "kernels/cpu/stable_ranks_simd.inl"
#include "common/every_bits_level.inl"
#undef RDH_LEVEL_BODY

// The call on some of the slabs alone.
void narrow_to(const HammingCut& cut, int64_t first_slab, int64_t slabs, HammingInputs& in, HammingLabels& labels) {
  const int64_t first = first_slab * cut.slab_items(), chunk = first / chunk_items;
  in.g += first * in.bytes;
  if (in.planes != nullptr) in.planes += chunk * in.bits * 64;
  in.gallery = std::min(in.gallery - first, slabs * cut.slab_items());
  if (labels.g_ids != nullptr) labels.g_ids = static_cast<const uint8_t*>(labels.g_ids) + first * labels.g_id_bytes;
  if (labels.g_rows != nullptr) labels.g_rows += first * labels.classes;
  if (labels.g_planes != nullptr) labels.g_planes += chunk * labels.classes * 64;
}

bool run(RanksProblem& problem, const Parallel& parallel) {
  const HammingInputs& in = problem.inputs;
  const int64_t size = in.queries * problem.row();
  const std::vector<int64_t> order = order_by_label(in, problem.labels);
  problem.order = order.data();
  SharedLines lines;
  if (!lines.make(in, problem.cut, RDH_AT_LEVEL(words_of_slab), RDH_AT_LEVEL(make_slab), parallel)) return false;
  problem.lines = &lines;
  LabelPlanes label_planes;
  if (!label_planes.make(in, problem.labels, RDH_AT_LEVEL(make_label_planes), parallel)) return false;
  problem.label_planes = label_planes.get();
  Workspace memory;
  int64_t* part_histograms = nullptr;
  memory.add(part_histograms, (problem.parts.count - 1) * size);
  if (!memory.allocate()) return false;
  problem.part_histograms = part_histograms;
  for (int64_t part = 0; part + 1 < problem.parts.count; ++part) {
    HammingInputs inputs = in;
    HammingLabels labels = problem.labels;
    if (labels.kind == LabelKind::multi_hot) {
      labels.kind = LabelKind::planes;
      labels.g_planes = problem.label_planes;
    }
    const int64_t slabs = problem.parts.slabs_each;
    narrow_to(problem.cut, part * slabs, slabs, inputs, labels);
    if (!hamming_histogram(inputs, labels, part_histograms + part * size, parallel)) return false;
  }
  return run_all(parallel, problem.parts.count * problem.cut.blocks,
                 [&, task = RDH_AT_LEVEL(run_task)](int64_t index) { return task(problem, index); });
}

}  // namespace

bool stable_ranks(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram, int64_t* ranks,
                  const Parallel& parallel) {
  const HammingCut cut(inputs, SlabSize::whole);
  RanksProblem problem{inputs, labels, cut, HammingParts(cut)};
  problem.histogram = histogram;
  problem.ranks = ranks;
  std::vector<int64_t> first(static_cast<size_t>(inputs.queries) + 1, 0);
  for (int64_t query = 0; query < inputs.queries; ++query) {
    first[query + 1] = first[query];
    for (int64_t d = 0; d <= inputs.bits; ++d) first[query + 1] += histogram[query * problem.row() + 2 * d + 1];
  }
  problem.first_rank = first.data();
  return run(problem, parallel);
}

bool stable_precision_sum(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram,
                          const int64_t* shift, int64_t limit, int64_t* sum, int64_t* found, const Parallel& parallel) {
  const HammingCut cut(inputs, SlabSize::whole);
  RanksProblem problem{inputs, labels, cut, HammingParts(cut)};
  problem.histogram = histogram;
  problem.shift = shift;
  problem.limit = limit;
  problem.is_unlimited = limit >= (shift == nullptr ? inputs.gallery : std::numeric_limits<int64_t>::max());
  Workspace memory;
  const int64_t entries = problem.parts.count * inputs.queries;
  memory.add(problem.sums, entries, true);
  memory.add(problem.within, entries, true);
  if (!memory.allocate() || !run(problem, parallel)) return false;
  for (int64_t query = 0; query < inputs.queries; ++query) {
    ExactSum all;
    found[query] = 0;
    for (int64_t part = 0; part < problem.parts.count; ++part) {
      all.add(problem.sums[part * inputs.queries + query]);
      found[query] += problem.within[part * inputs.queries + query];
    }
    all.put(sum + 3 * query);
  }
  return true;
}

}  // namespace rdh::cpu
