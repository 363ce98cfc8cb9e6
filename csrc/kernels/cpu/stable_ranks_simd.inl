// Ranks of relevant items over any Bits. Included for every level.

#include "kernels/cpu/hamming_adders.inl"
//
#include "kernels/cpu/hamming_relevance.inl"
//
#include "kernels/cpu/hamming_slices.inl"

// What has been seen of the gallery by one query: how many items rank before the next one at a distance, and how many
// of them are relevant.
struct Seen {
  int64_t *all, *relevant;
};

// The relevant items of a chunk in the order of the gallery: their rank, and their rank among the relevant ones.
struct Found {
  int64_t count;
  int64_t rank[chunk_items], relevant_rank[chunk_items];
};

// Counts of the 64 runs of a chunk, four steps of a lane in a word.
inline int64_t place_of_run(int64_t run) { return run % 8 / 4 * 32 + run / 8 * 4 + run % 4; }

// An item of a chunk, and the place of its run.
struct Position {
  uint16_t item, word;
};

// Where the relevant items of a slab are, chunk by chunk, in the order of the gallery.
struct Positions {
  Position* in_chunk;  // one chunk behind the other
  int64_t* first;      // of a chunk, [chunks + 1]

  void find(const uint64_t* masks, int64_t chunks) {
    int64_t n = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk, masks += 64) {
      first[chunk] = n;
      for (int64_t run = 0; run < 64; ++run) {
        const int64_t word = run % 8 * 8 + run / 8;
        for (uint64_t mask = masks[word]; mask != 0; mask &= mask - 1) {
          in_chunk[n++] = {static_cast<uint16_t>(64 * run + __builtin_ctzll(mask)),
                           static_cast<uint16_t>(place_of_run(run))};
        }
      }
    }
    first[chunks] = n;
  }
};

// Counts along a chunk: how many items there are at a distance before each run of 64 items of the chunk, and before the
// chunk. A lane of the planes is eight of these runs: counted step by step, and then lane by lane.
struct Along {
  uint64_t* before_run;   // [bits + 1][2][lane] four steps, of 16 bits each; at first before the run in its lane
  uint16_t* in_lane;      // [bits + 1][lane]
  int64_t* before_chunk;  // [bits + 1]; a rank

  // Also the distances themselves. seen: items at each distance so far, which it takes up.
  template <class B = Bits>  // or names would be looked up where they are not
  void count(const Slab& slab, int64_t chunk, const Flips& flips, uint8_t* bytes, int64_t* seen) const {
    const int64_t bits = slab.bits;
    const int digits = digits_of(bits), groups = static_cast<int>(bits / 8 + 1);
    Slices slices;
    V c[most_digits];
    uint32_t used = 0;
    for (int64_t part = 0; part < parts; ++part) {
      for (int step = 0; step < 8; ++step) {
        add_slab(slab, chunk, step, part, flips, c);
        slices.split(step, c, digits, groups);
        spread(c, digits, step, part, bytes, nullptr);
      }
      for (int h = 0; h < groups; ++h) {
        if ((used >> h & 1) == 0 && !any_of(slices.group[h])) continue;
        const int places = static_cast<int>(std::min<int64_t>(8, bits + 1 - 8 * h));
        if ((used >> h & 1) == 0) {  // the parts before had none
          used |= uint32_t{1} << h;
          if (part > 0) {
            std::memset(in_lane + 64 * h, 0, static_cast<size_t>(places) * 16);
            std::memset(before_run + 128 * h, 0, static_cast<size_t>(places) * 128);
          }
        }
        for (int l = 0; l < places; ++l) {
          const int64_t d = 8 * h + l;
          V sum = Bits::zero(), half[2];
          const auto count = [&](int step) {
            return Bits::count(Bits::both(slices.place[l][step], slices.group[h][step]));
          };
          for (int i = 0; i < 2; ++i) {
            const V one = Bits::add(sum, count(4 * i)), two = Bits::add(one, count(4 * i + 1));
            const V three = Bits::add(two, count(4 * i + 2));
            const V low = Bits::either(sum, Bits::template left<16>(one));
            half[i] = Bits::either(low, Bits::either(Bits::template left<32>(two), Bits::template left<48>(three)));
            sum = Bits::add(three, count(4 * i + 3));
          }
          uint64_t* to = before_run + 16 * d + part * Bits::words;
          if constexpr (B::words == 8) {  // all lanes are here
            uint64_t all = 0;
            const V before = four_times(B::before_each(sum, all));
            for (int i = 0; i < 2; ++i) half[i] = Bits::add(half[i], before);
            before_chunk[d] = seen[d];
            seen[d] += static_cast<int64_t>(all);
          } else {
            B::store_short(in_lane + 8 * d + part * Bits::words, sum);
          }
          for (int i = 0; i < 2; ++i) Bits::store(to + 8 * i, half[i]);
        }
      }
    }
    if constexpr (B::words < 8) add_lanes<B>(bits, used, seen);
  }

 private:
  static V four_times(V v) {  // of 16 bits
    v = Bits::either(v, Bits::template left<16>(v));
    return Bits::either(v, Bits::template left<32>(v));
  }

  // Adds what is in the lanes before. A word has the counts of four lanes, and a product with ones their partial sums.
  template <class B>
  void add_lanes(int64_t bits, uint32_t used, int64_t* seen) const {
    constexpr uint64_t one = 0x0001000100010001;
    for (int64_t d = 0; d <= bits; ++d) {
      if ((used >> (d / 8) & 1) == 0) continue;
      uint64_t low = 0, high = 0;
      std::memcpy(&low, in_lane + 8 * d, 8);
      std::memcpy(&high, in_lane + 8 * d + 4, 8);
      const uint64_t low_sums = low * one, high_sums = (high + (low_sums >> 48)) * one;
      for (int64_t part = 0; part < parts; ++part) {
        const V before = four_times(B::shorts(low_sums - low, high_sums - high, part));
        for (int64_t half = 0; half < 2; ++half) {
          uint64_t* run = before_run + 16 * d + 8 * half + part * Bits::words;
          Bits::store(run, Bits::add(Bits::load(run), before));
        }
      }
      before_chunk[d] = seen[d];
      seen[d] += static_cast<int64_t>(high_sums >> 48);
    }
  }
};

// In a fixed order: eight sums side by side, and then those.
class Precisions {
 public:
  void add_up_to(const Found& found, int64_t n) {
    Eight relevant_rank, rank;
    for (; done_ < n; done_ += 8) {
      read(found.relevant_rank + done_, relevant_rank);
      read(found.rank + done_, rank);
      sums_ += relevant_rank / rank;
    }
  }

  // All that were found.
  double total(Found& found) {
    const int64_t padded = (found.count + 7) / 8 * 8;
    for (int64_t i = found.count; i < padded; ++i) {
      found.relevant_rank[i] = 0;
      found.rank[i] = 1;
    }
    add_up_to(found, padded);
    return ((sums_[0] + sums_[1]) + (sums_[2] + sums_[3])) + ((sums_[4] + sums_[5]) + (sums_[6] + sums_[7]));
  }

 private:
  // vectors of the compiler: an array would be taken apart and put together again
  typedef double Eight __attribute__((vector_size(64)));
  typedef int64_t EightRanks __attribute__((vector_size(64)));

  [[gnu::always_inline]] static void read(const int64_t* p, Eight& to) {
    EightRanks ranks;
    std::memcpy(&ranks, p, sizeof ranks);
    to = __builtin_convertvector(ranks, Eight);
  }

  Eight sums_{};
  int64_t done_ = 0;
};

// Calls often(n) when n have been found, now and then.
template <class Often>
inline void rank_sliced(const Slab& slab, int64_t chunk, const Flips& flips, uint8_t* bytes, const Position* positions,
                        int64_t count, Along along, Seen seen, Found& found, Often often) {
  along.count(slab, chunk, flips, bytes, seen.all);
  const auto* before_run = reinterpret_cast<const char*>(along.before_run);
  const int64_t* before_chunk = along.before_chunk;
  int64_t *seen_relevant = seen.relevant, *rank = found.rank, *relevant_rank = found.relevant_rank;
  const auto put = [&](int64_t n) {
    const Position position = positions[n];
    const uint64_t at = position.item, d = bytes[at];
    const uint64_t same = Bits::equal(bytes + at / 64 * 64, static_cast<uint8_t>(d));
    const int here = __builtin_popcountll(same << (~at & 63));  // up to itself: items behind it leave at the top
    uint16_t before;
    std::memcpy(&before, before_run + 2 * (64 * d + position.word), sizeof before);
    rank[n] = before_chunk[d] + before + here;
    relevant_rank[n] = ++seen_relevant[d];
  };
  int64_t n = 0;
  while (n + 8 <= count) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) put(n + i);
    n += 8;
    often(n);
  }
  for (; n < count; ++n) put(n);
  found.count = count;
}

// The same one item at a time, for codes so long that a mask per distance would be one per item.
inline void rank_long(const uint8_t* low, const uint8_t* high, const Position* positions, int64_t count, Seen seen,
                      Found& found) {
  int64_t item = 0;
  for (int64_t n = 0; n < count; ++n) {
    const int64_t at = positions[n].item;
    for (; item <= at; ++item) ++seen.all[low[item] | high[item] << 8];
    const int64_t d = low[at] | high[at] << 8;
    found.rank[n] = seen.all[d];
    found.relevant_rank[n] = ++seen.relevant[d];
  }
  for (; item < chunk_items; ++item) ++seen.all[low[item] | high[item] << 8];
  found.count = count;
}

// What ranks behind the limit counts nothing; how many do not.
inline int64_t keep_within(Found& found, int64_t limit) {
  int64_t beyond = 0;
  for (int64_t i = 0; i < found.count; ++i) {
    const bool is_beyond = found.rank[i] > limit;
    found.relevant_rank[i] = is_beyond ? 0 : found.relevant_rank[i];
    beyond += is_beyond;
  }
  return found.count - beyond;
}

inline bool run_task(const RanksProblem& problem, int64_t index) {
  const HammingInputs& in = problem.inputs;
  const HammingCut& cut = problem.cut;
  const int64_t part = index / cut.blocks, block = index % cut.blocks, bins = in.bits + 1;
  const bool sliced = in.bits <= most_sliced_bits;
  const bool all_count = problem.totals != nullptr && problem.limit >= in.gallery;
  const int64_t first_query = block * query_block, queries = std::min(query_block, in.queries - first_query);
  Workspace memory;
  uint64_t *own = nullptr, *masks = nullptr;
  Flips flips{};
  uint8_t *tags = nullptr, *bytes = nullptr;
  int64_t *all = nullptr, *relevant = nullptr;
  Found* found = nullptr;
  Along along{};
  Positions positions{};
  memory.add(own, problem.lines->of(0) != nullptr ? 0 : words_of_slab(in, cut.slab_chunks));
  memory.add(flips.flip, in.bits);
  memory.add(flips.at, in.bits);
  memory.add(masks, cut.slab_chunks * 64);
  memory.add(tags, cut.slab_items());
  memory.add(bytes, 2 * chunk_items);
  memory.add(all, queries * bins);
  memory.add(relevant, queries * bins);
  memory.add(found, 1);
  memory.add(along.before_run, sliced ? bins * 16 : 0);
  memory.add(along.in_lane, sliced ? bins * 8 : 0);
  memory.add(along.before_chunk, sliced ? bins : 0);
  memory.add(positions.in_chunk, cut.slab_items());
  memory.add(positions.first, cut.slab_chunks + 1);
  if (!memory.allocate()) return false;
  const int64_t* order = problem.order + first_query;
  for (int64_t i = 0; i < queries; ++i) problem.start(part, order[i], all + i * bins, relevant + i * bins);
  const int64_t end = std::min(cut.slabs, (part + 1) * problem.parts.slabs_each);
  for (int64_t slab = part * problem.parts.slabs_each; slab < end; ++slab) {
    const HammingTask task(in, cut, slab * cut.blocks + block);
    const Slab lines = slab_of(in, task, *problem.lines, own);
    Relevance relevance(problem.labels, task, order, problem.label_planes, nullptr, tags, masks);
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t query = order[i];
      flips.make(in.q + query * in.bytes, in.bits, lines.carried);
      if (relevance.of(query)) positions.find(masks, task.chunks);
      const Seen seen{all + i * bins, relevant + i * bins};
      for (int64_t chunk = 0; chunk < task.chunks; ++chunk) {
        const Position* of_chunk = positions.in_chunk + positions.first[chunk];
        const int64_t count = positions.first[chunk + 1] - positions.first[chunk];
        Precisions precisions;
        // sixteen items late, when they are in the cache: a division takes as long as two items, which wait for it
        // no longer
        const auto add_some = [&](int64_t n) { precisions.add_up_to(*found, n - 16); };
        if (!sliced) {
          distances(lines, chunk, flips, bytes, bytes + chunk_items);
          rank_long(bytes, bytes + chunk_items, of_chunk, count, seen, *found);
        } else if (all_count) {
          rank_sliced(lines, chunk, flips, bytes, of_chunk, count, along, seen, *found, add_some);
        } else {
          rank_sliced(lines, chunk, flips, bytes, of_chunk, count, along, seen, *found, [](int64_t) {});
        }
        if (problem.totals == nullptr) {
          problem.put_ranks(query, found->rank, found->relevant_rank, found->count);
        } else {
          const int64_t at = slab / problem.parts.slabs_of_group * in.queries + query;
          problem.within[at] += all_count ? found->count : keep_within(*found, problem.limit);
          problem.totals[at] += precisions.total(*found);
        }
      }
    }
  }
  return true;
}
