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
  const uint8_t* asked;  // eight distances in a byte: at which there are relevant ones
};

// The relevant items of a chunk in the order of the gallery: their rank, negative, and their rank among the relevant
// ones.
struct Found {
  int64_t count;
  int64_t minus_rank[chunk_items], relevant_rank[chunk_items];
};

// An item of a chunk, and the place of its run of 64 in the planes.
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
          in_chunk[n++] = {static_cast<uint16_t>(64 * run + __builtin_ctzll(mask)), static_cast<uint16_t>(word)};
        }
      }
    }
    first[chunks] = n;
  }
};

// What there is at each distance up to the end of each of the 64 runs of a chunk; at the distances alone at which the
// gallery has relevant items.
struct Along {
  uint64_t* minus;  // [bits + 1][step][lane]; of the rank of the last one, -1 - rank
  uint64_t** row;   // [bits + 1] where those of a distance are

  // Also the distances themselves. asked: the distances, eight in a byte. seen: how many rank before the chunk at each
  // of them, and then behind it.
  void count(const Slab& slab, int64_t chunk, const Flips& flips, const uint8_t* asked, uint8_t* bytes,
             int64_t* seen) const {
    const int64_t bits = slab.bits;
    const int digits = digits_of(bits), groups = static_cast<int>(bits / 8 + 1);
    Slices slices;
    V c[most_digits];
    for (int64_t part = 0; part < parts; ++part) {  // its lanes, of eight runs each, are behind those before
      for (int step = 0; step < 8; ++step) {
        add_slab(slab, chunk, step, part, flips, c);
        slices.split(step, c, digits, groups);
        spread(c, digits, step, part, bytes, nullptr);
      }
      for (int h = 0; h < groups; ++h) {
        if (asked[h] == 0 || !any_of(slices.group[h])) continue;
        for (uint32_t left = asked[h]; left != 0; left &= left - 1) {
          const int l = __builtin_ctz(left);
          const int64_t d = 8 * h + l;
          V in_lane[8], sum = Bits::zero();
          for (int step = 0; step < 8; ++step) {
            sum = Bits::add(sum, Bits::count(Bits::both(slices.place[l][step], slices.group[h][step])));
            in_lane[step] = sum;
          }
          uint64_t all = 0;
          const V before = Bits::subtract(Bits::set(static_cast<uint64_t>(-1 - seen[d])), Bits::before_each(sum, all));
          uint64_t* to = minus + 64 * d + part * Bits::words;
          for (int step = 0; step < 8; ++step) Bits::store(to + 8 * step, Bits::subtract(before, in_lane[step]));
          seen[d] += static_cast<int64_t>(all);
        }
      }
    }
  }
};

// The exact sum of precisions. A number whose last digit is 2^-46 takes up what a term has of such multiples, and one
// whose last digit is 2^-92 the rest: for 62 terms they stay between the powers of two that they are between.
class Precisions {
 public:
  explicit Precisions(ExactSum& sum) : sum_(sum) {}

  [[gnu::always_inline]] void add_up_to(const Found& found, int64_t n) {
    Eight relevant_rank, minus_rank;
    for (; done_ < n; done_ += 8) {
      read(found.relevant_rank + done_, relevant_rank);
      read(found.minus_rank + done_, minus_rank);
      const Eight minus = relevant_rank / minus_rank, before = coarse_;
      coarse_ = before + minus;
      fine_ += minus - (coarse_ - before);
      if (--room_ == 0) flush();
    }
  }

  // All that were found.
  void finish(Found& found) {
    const int64_t padded = (found.count + 7) / 8 * 8;
    for (int64_t i = found.count; i < padded; ++i) {
      found.relevant_rank[i] = 0;
      found.minus_rank[i] = -1;
    }
    add_up_to(found, padded);
    flush();
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

  [[gnu::always_inline]] void flush() {
    const Eight coarse = coarse_, fine = fine_;  // copies: what a function sees is in memory
    give(sum_, coarse, fine);
    coarse_ = Eight{} + from_coarse;
    fine_ = Eight{} + from_fine;
    room_ = 62;
  }

  [[gnu::noinline]] static void give(ExactSum& sum, const Eight& coarse, const Eight& fine) {
    const EightRanks coarse_digits = __builtin_convertvector((from_coarse - coarse) * 0x1p46, EightRanks);
    const EightRanks fine_digits = __builtin_convertvector((from_fine - fine) * 0x1p92, EightRanks);
    int64_t all_coarse = 0, all_fine = 0;
    for (int i = 0; i < 8; ++i) {
      all_coarse += coarse_digits[i];
      all_fine += fine_digits[i];
    }
    sum.add(all_coarse, all_fine);
  }

  static constexpr double from_coarse = 0x1.fcp6, from_fine = 0x1.8p-40;
  ExactSum& sum_;
  Eight coarse_ = Eight{} + from_coarse, fine_ = Eight{} + from_fine;
  int64_t done_ = 0;
  int room_ = 62;
};

// Calls often(n) when n have been found, now and then.
template <class Often>
inline void rank_sliced(const Slab& slab, int64_t chunk, const Flips& flips, uint8_t* bytes, const Position* positions,
                        int64_t count, Along along, Seen seen, Found& found, Often often) {
  along.count(slab, chunk, flips, seen.asked, bytes, seen.all);
  uint64_t* const* row = along.row;
  int64_t *seen_relevant = seen.relevant, *minus_rank = found.minus_rank, *relevant_rank = found.relevant_rank;
  const auto put = [&](int64_t n) {
    const Position& position = positions[n];
    const uint64_t d = bytes[position.item];
    const uint64_t same = Bits::equal(bytes + (position.item & ~63), static_cast<uint8_t>(d));
    const int from_here = __builtin_popcountll(same >> (position.item & 63));
    minus_rank[n] = static_cast<int64_t>(row[d][position.word]) + from_here;
    relevant_rank[n] = ++seen_relevant[d];
  };
  int64_t n = 0;
  while (n + 16 <= count) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) put(n + i);
    n += 16;
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
    found.minus_rank[n] = -seen.all[d];
    found.relevant_rank[n] = ++seen.relevant[d];
  }
  for (; item < chunk_items; ++item) ++seen.all[low[item] | high[item] << 8];
  found.count = count;
}

// What ranks behind the limit counts nothing; how many do not.
inline int64_t keep_within(Found& found, int64_t limit) {
  int64_t beyond = 0;
  for (int64_t i = 0; i < found.count; ++i) {
    const bool is_beyond = -found.minus_rank[i] > limit;
    found.relevant_rank[i] = is_beyond ? 0 : found.relevant_rank[i];
    beyond += is_beyond;
  }
  return found.count - beyond;
}

inline bool run_task(const RanksProblem& problem, int64_t index) {
  const HammingInputs& in = problem.inputs;
  const HammingCut& cut = problem.cut;
  const int64_t part = index / cut.blocks, block = index % cut.blocks, bins = in.bits + 1;
  const int64_t groups = in.bits / 8 + 1;
  const bool sliced = in.bits <= most_sliced_bits;
  const bool all_count = problem.sums != nullptr && problem.is_unlimited;
  const int64_t first_query = block * query_block, queries = std::min(query_block, in.queries - first_query);
  Workspace memory;
  uint64_t *own = nullptr, *masks = nullptr;
  Flips flips{};
  uint8_t *tags = nullptr, *bytes = nullptr, *asked = nullptr;
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
  memory.add(asked, queries * groups);
  memory.add(found, 1);
  memory.add(along.minus, sliced ? bins * 64 : 0, true);  // read at any distance, if the histogram is a wrong one
  memory.add(along.row, sliced ? bins : 0);
  memory.add(positions.in_chunk, cut.slab_items());
  memory.add(positions.first, cut.slab_chunks + 1);
  if (!memory.allocate()) return false;
  for (int64_t d = 0; d < bins && sliced; ++d) along.row[d] = along.minus + 64 * d;
  const int64_t* order = problem.order + first_query;
  for (int64_t i = 0; i < queries; ++i) {
    problem.start(part, order[i], all + i * bins, relevant + i * bins);
    problem.ask(order[i], asked + i * groups);
  }
  const int64_t end = std::min(cut.slabs, (part + 1) * problem.parts.slabs_each);
  for (int64_t slab = part * problem.parts.slabs_each; slab < end; ++slab) {
    const HammingTask task(in, cut, slab * cut.blocks + block);
    const Slab lines = slab_of(in, task, *problem.lines, own);
    Relevance relevance(problem.labels, task, order, problem.label_planes, nullptr, tags, masks);
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t query = order[i];
      flips.make(in.q + query * in.bytes, in.bits, lines.carried);
      if (relevance.of(query)) positions.find(masks, task.chunks);
      const Seen seen{all + i * bins, relevant + i * bins, asked + i * groups};
      for (int64_t chunk = 0; chunk < task.chunks; ++chunk) {
        const Position* of_chunk = positions.in_chunk + positions.first[chunk];
        const int64_t count = positions.first[chunk + 1] - positions.first[chunk];
        const int64_t at = part * in.queries + query;
        ExactSum unused, &sum = problem.sums != nullptr ? problem.sums[at] : unused;
        Precisions precisions(sum);
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
        if (problem.sums == nullptr) {
          problem.put_ranks(query, found->minus_rank, found->relevant_rank, found->count);
        } else {
          problem.within[at] += all_count ? found->count : keep_within(*found, problem.limit);
          precisions.finish(*found);
        }
      }
    }
  }
  return true;
}
