// Computes:  the k nearest codes of every query, sorted by (distance, gallery index): kernels/hamming_topk.h.
// Algorithm: by counting. Full adders over the bit planes of a slab of the gallery (kernels/hamming.h), or over their
//            carries, give the digits of its distances to a query. The cut, the smallest distance within which there
//            are k items, by comparing digits with a number and counting, from the cut of the query before on; the
//            items within it, in gallery order; a counting sort by distance, which is stable. Slabs come one after the
//            other: only what is closer than the last of the list so far can still enter it, and is merged.
// Memory:    the lines of the gallery (hamming_problem.h), 2 K / 8 bytes an item, are made once where they take at most
//            64 MiB, else slab by slab in every task; with few queries planes, K / 8 bytes an item, unless they are
//            given. A task has the digits of its distances, a byte an item at K = 64, and 8 bytes per candidate, of
//            which there are at most k and at most a slab's items. Few queries: a list of k per query and part of the
//            gallery.
// Tiling:    blocks of 128 queries by parts of the gallery; slabs of 65,536 items at K = 64.
// Numerics:  integers; no two items compare equal, so there is one answer.
// Limits:    K up to 4096; any k.

#include "kernels/hamming_topk.h"

#include "common/cpu_level.h"
#include "common/intrinsics.h"
#include "common/target_region.h"
#include "kernels/cpu/hamming_problem.h"

namespace rdh::cpu {
namespace {

// Distances and gallery indices of up to k items.
struct Nearest {
  int16_t* distance;
  int64_t* index;
};

struct TopkProblem {
  HammingInputs inputs;
  HammingCut cut;
  HammingParts parts;
  const SharedLines* lines;
  int64_t k;
  Nearest out;    // [queries, k]
  Nearest lists;  // [parts, queries, kept], where there are several

  int64_t part_items(int64_t part) const {
    const int64_t each = parts.slabs_each * cut.slab_items();
    return std::min(each, inputs.gallery - part * each);
  }
  int64_t kept() const { return std::min(k, part_items(0)); }
  Nearest list(int64_t part, int64_t query) const {
    if (parts.count == 1) return {out.distance + query * k, out.index + query * k};
    const int64_t at = (part * inputs.queries + query) * kept();
    return {lists.distance + at, lists.index + at};
  }
};

#define RDH_LEVEL_BODY "kernels/cpu/hamming_topk_simd.inl"
#include "common/every_bits_level.inl"
#undef RDH_LEVEL_BODY

// The lists of the parts of the gallery, which come one behind the other, as one.
void join(const TopkProblem& problem, int64_t query) {
  std::vector<int64_t> next(static_cast<size_t>(problem.parts.count), 0);
  for (int64_t n = 0; n < problem.k; ++n) {
    int64_t best = -1;
    int closest = INT16_MAX;
    for (int64_t part = 0; part < problem.parts.count; ++part) {
      if (next[part] == std::min(problem.k, problem.part_items(part))) continue;
      const int distance = problem.list(part, query).distance[next[part]];
      if (distance < closest) {
        closest = distance;
        best = part;
      }
    }
    const int64_t from = next[best]++;
    problem.out.distance[query * problem.k + n] = static_cast<int16_t>(closest);
    problem.out.index[query * problem.k + n] = problem.list(best, query).index[from];
  }
}

}  // namespace

bool hamming_topk(const HammingInputs& inputs, int64_t k, int16_t* distances, int64_t* indices,
                  const Parallel& parallel) {
  const HammingCut cut(inputs, SlabSize::whole);
  SharedLines lines;
  if (!lines.make(inputs, cut, RDH_AT_LEVEL(words_of_slab), RDH_AT_LEVEL(make_slab), parallel)) return false;
  TopkProblem problem{inputs, cut, HammingParts(cut), &lines, k, {distances, indices}, {nullptr, nullptr}};
  const bool several = problem.parts.count > 1;
  Workspace memory;
  const int64_t entries = several ? problem.parts.count * inputs.queries * problem.kept() : 0;
  memory.add(problem.lists.distance, entries);
  memory.add(problem.lists.index, entries);
  if (!memory.allocate()) return false;
  if (!run_all(parallel, problem.parts.count * cut.blocks,
               [&, task = RDH_AT_LEVEL(run_task)](int64_t index) { return task(problem, index); })) {
    return false;
  }
  if (several) parallel(inputs.queries, [&](int64_t query) { join(problem, query); });
  return true;
}

}  // namespace rdh::cpu
