// Ranks of relevant items over any Bits. Included for every level.

#include "kernels/cpu/hamming_planes.inl"
//
#include "kernels/cpu/hamming_relevance.inl"

// What has been seen of the gallery by one query: how many items rank before the next one at a distance, and how many
// of them are relevant.
struct Seen {
  int64_t *all, *relevant;
};

// The relevant items of a chunk in the order of the gallery: their rank, and their rank among the relevant ones.
struct Found {
  int64_t count;
  double rank[chunk_items], relevant_rank[chunk_items];
};

// The items before number i of 64.
inline uint64_t before(int i) { return (uint64_t{1} << i) - 1; }

inline uint64_t equal(const uint8_t* low, const uint8_t* high, int64_t i) {
  const uint64_t same = Bits::equal(low, low[i]);
  return high == nullptr ? same : same & Bits::equal(high, high[i]);
}

inline void rank_chunk(const uint8_t* low, const uint8_t* high, const uint64_t* masks, Seen seen, Found& found) {
  int64_t n = 0;
  for (int64_t run = 0; run < 64; ++run, low += 64, high += high == nullptr ? 0 : 64) {
    const auto distance = [&](int64_t i) { return high == nullptr ? low[i] : low[i] | high[i] << 8; };
    for (uint64_t relevant = masks[run % 8 * 8 + run / 8]; relevant != 0; relevant &= relevant - 1) {
      const int i = __builtin_ctzll(relevant);
      const int d = distance(i);
      found.rank[n] = static_cast<double>(seen.all[d] + __builtin_popcountll(equal(low, high, i) & before(i)) + 1);
      found.relevant_rank[n++] = static_cast<double>(++seen.relevant[d]);
    }
    for (int64_t i = 0; i < 64; ++i) ++seen.all[distance(i)];
  }
  found.count = n;
}

// In a fixed order: eight sums side by side, then those, then the chunks.
inline void add_precisions(Found& found, double limit, double& total, int64_t& within) {
  double sums[8] = {};
  const int64_t n = found.count, padded = (n + 7) / 8 * 8;
  for (int64_t i = n; i < padded; ++i) {
    found.relevant_rank[i] = 0;
    found.rank[i] = 1;
  }
  int64_t inside = n;
  for (int64_t i = 0; i < n; ++i) {
    if (found.rank[i] > limit) {
      found.relevant_rank[i] = 0;
      --inside;
    }
  }
  for (int64_t i = 0; i < padded; i += 8) {
    for (int64_t lane = 0; lane < 8; ++lane) sums[lane] += found.relevant_rank[i + lane] / found.rank[i + lane];
  }
  total += ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  within += inside;
}

inline bool run_task(const RanksProblem& problem, int64_t index) {
  const HammingInputs& in = problem.inputs;
  const HammingCut& cut = problem.cut;
  const int64_t part = index / cut.blocks, block = index % cut.blocks, bins = in.bits + 1;
  const bool wide = in.bits > 255;
  const int64_t first_query = block * query_block, queries = std::min(query_block, in.queries - first_query);
  Workspace memory;
  uint64_t *own_planes = nullptr, *flips = nullptr, *masks = nullptr;
  uint8_t *tags = nullptr, *bytes = nullptr;
  int64_t *all = nullptr, *relevant = nullptr;
  Found* found = nullptr;
  memory.add(own_planes, in.planes == nullptr ? cut.slab_chunks * in.bits * 64 : 0);
  memory.add(flips, in.bits);
  memory.add(masks, cut.slab_chunks * 64);
  memory.add(tags, cut.slab_items());
  memory.add(bytes, 2 * chunk_items);
  memory.add(all, queries * bins);
  memory.add(relevant, queries * bins);
  memory.add(found, 1);
  if (!memory.allocate()) return false;
  const int64_t* order = problem.order + first_query;
  for (int64_t i = 0; i < queries; ++i) problem.start(part, order[i], all + i * bins, relevant + i * bins);
  const int64_t end = std::min(cut.slabs, (part + 1) * problem.parts.slabs_each);
  for (int64_t slab = part * problem.parts.slabs_each; slab < end; ++slab) {
    const HammingTask task(in, cut, slab * cut.blocks + block);
    const uint64_t* planes = planes_of(in, task, own_planes);
    Relevance relevance(in, problem.labels, task, order, problem.label_planes, tags, masks);
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t query = order[i];
      make_flips(in.q + query * in.bytes, in.bits, flips);
      relevance.of(query);
      const Seen seen{all + i * bins, relevant + i * bins};
      for (int64_t chunk = 0; chunk < task.chunks; ++chunk) {
        distances(planes + chunk * in.bits * 64, flips, in.bits, bytes, bytes + chunk_items);
        rank_chunk(bytes, wide ? bytes + chunk_items : nullptr, masks + chunk * 64, seen, *found);
        if (problem.ranks != nullptr) {
          problem.put_ranks(query, found->rank, found->relevant_rank, found->count);
        } else {
          const int64_t at = slab / problem.parts.slabs_of_group * in.queries + query;
          add_precisions(*found, problem.limit, problem.totals[at], problem.within[at]);
        }
      }
    }
  }
  return true;
}
