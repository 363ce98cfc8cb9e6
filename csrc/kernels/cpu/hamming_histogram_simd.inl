// The histogram over any Bits. Included for every level.

#include "kernels/cpu/hamming_adders.inl"
//
#include "kernels/cpu/hamming_relevance.inl"
//
#include "kernels/cpu/hamming_slices.inl"

// A count of masks, where counting is an instruction: of each lane.
struct CountingCounter {
  V total;

  [[gnu::always_inline]] void add(const V* masks) {
    V sum = total;
    for (int i = 0; i < 8; ++i) sum = Bits::add(sum, Bits::count(masks[i]));
    total = sum;
  }
  V value() const { return total; }
};

// Elsewhere: what has been seen is total * 8 + ones + 2 * twos + 4 * fours, in every lane, with bits in the last three
// and numbers in the first.
struct SavingCounter {
  V total, ones, twos, fours;

  [[gnu::always_inline]] void add(const V* masks) {
    const V a = Bits::carry(ones, masks[0], masks[1]), s = Bits::sum(ones, masks[0], masks[1]);
    const V b = Bits::carry(s, masks[2], masks[3]), t = Bits::sum(s, masks[2], masks[3]);
    const V c = Bits::carry(t, masks[4], masks[5]), u = Bits::sum(t, masks[4], masks[5]);
    const V d = Bits::carry(u, masks[6], masks[7]);
    ones = Bits::sum(u, masks[6], masks[7]);
    const V e = Bits::carry(twos, a, b), w = Bits::sum(twos, a, b);
    const V f = Bits::carry(w, c, d);
    twos = Bits::sum(w, c, d);
    const V g = Bits::carry(fours, e, f);
    fours = Bits::sum(fours, e, f);
    total = Bits::add(total, Bits::count(g));
  }
  V value() const {
    const V low = Bits::add(Bits::count(ones), Bits::left<1>(Bits::count(twos)));
    return Bits::add(Bits::add(low, Bits::left<2>(Bits::count(fours))), Bits::left<3>(total));
  }
};

using Counter = std::conditional_t<Bits::counts, CountingCounter, SavingCounter>;

constexpr int64_t group_counters = 16;  // two for each of eight distances

// Counts the items of some chunks by distance, all and the relevant ones. counters [groups][8][2]; used: groups that
// have been counted in, the others are whatever they were.
inline void count_sliced(const Slab& slab, int64_t chunks, const Flips& flips, const uint64_t* masks, Counter* counters,
                         uint32_t& used) {
  const int64_t bits = slab.bits;
  const int digits = digits_of(bits), groups = static_cast<int>(bits / 8 + 1);
  Slices slices;
  V c[most_digits], relevant[8];
  for (int64_t chunk = 0; chunk < chunks; ++chunk, masks += 64) {
    for (int64_t part = 0; part < parts; ++part) {
      for (int step = 0; step < 8; ++step) {
        add_slab(slab, chunk, step, part, flips, c);
        slices.split(step, c, digits, groups);
        relevant[step] = Bits::load(masks + step * 8 + part * Bits::words);
      }
      const bool some_relevant = any_of(relevant);
      for (int h = 0; h < groups; ++h) {
        const V* group = slices.group[h];
        if (!any_of(group)) continue;
        Counter* counter = counters + group_counters * h;
        if ((used >> h & 1) == 0) {
          used |= uint32_t{1} << h;
          std::memset(static_cast<void*>(counter), 0, group_counters * sizeof(Counter));
        }
        const int places = static_cast<int>(std::min<int64_t>(8, bits + 1 - 8 * h));
        V both[8];
        if (some_relevant) {
          for (int i = 0; i < 8; ++i) both[i] = Bits::both(group[i], relevant[i]);
        }
        if (some_relevant && any_of(both)) {
          for (int l = 0; l < places; ++l, counter += 2) {
            V all[8], some[8];
            for (int i = 0; i < 8; ++i) all[i] = Bits::both(slices.place[l][i], group[i]);
            for (int i = 0; i < 8; ++i) some[i] = Bits::both(slices.place[l][i], both[i]);
            counter[0].add(all);
            counter[1].add(some);
          }
        } else {
          for (int l = 0; l < places; ++l, counter += 2) {
            V all[8];
            for (int i = 0; i < 8; ++i) all[i] = Bits::both(slices.place[l][i], group[i]);
            counter[0].add(all);
          }
        }
      }
    }
  }
}

// The same one item at a time, for codes so long that a mask per distance would be one per item.
inline void count_long(const Slab& slab, int64_t chunks, const Flips& flips, const uint64_t* masks, uint8_t* bytes,
                       uint64_t* counts) {
  for (int64_t chunk = 0; chunk < chunks; ++chunk, masks += 64) {
    distances(slab, chunk, flips, bytes, bytes + chunk_items);
    for (int64_t run = 0; run < 64; ++run) {
      uint64_t relevant = masks[run % 8 * 8 + run / 8];
      for (int64_t i = run * 64; i < run * 64 + 64; ++i, relevant >>= 1) {
        uint64_t* at = counts + 2 * (bytes[i] + 256 * bytes[chunk_items + i]);
        ++at[0];
        at[1] += relevant & 1;
      }
    }
  }
}

// Piece by piece: what is written in pieces is not read as a whole for a long time.
template <int Bytes>
[[gnu::always_inline]] inline uint64_t short_code(const uint8_t* code) {
  uint64_t word = 0;
  if constexpr (Bytes == 8) {
    std::memcpy(&word, code, 8);
  } else {
    uint32_t four = 0;
    uint16_t two = 0;
    constexpr int after_four = Bytes / 4 * 4, after_two = Bytes / 2 * 2;
    if constexpr (Bytes >= 4) std::memcpy(&four, code, 4);
    if constexpr (after_two > after_four) std::memcpy(&two, code + after_four, 2);
    word = four | uint64_t{two} << (8 * after_four);
    if constexpr (Bytes > after_two) word |= uint64_t{code[after_two]} << (8 * after_two);
  }
  return word;
}

// The codes of a chunk of a sorted slab, side by side; short ones as words.
template <int Bytes>
inline void gather_words(const uint8_t* codes, const uint32_t* item, int64_t items, uint8_t* to) {
  for (int64_t i = 0; i < items; ++i) {
    const uint64_t word = short_code<Bytes>(codes + int64_t{Bytes} * item[i]);
    std::memcpy(to + 8 * i, &word, 8);
  }
}

inline int64_t width_of_gathered(int64_t bytes) { return std::max<int64_t>(8, bytes); }

inline void gather(const uint8_t* codes, int64_t bytes, const uint32_t* item, int64_t items, uint8_t* to) {
  switch (bytes) {
    case 1:
      return gather_words<1>(codes, item, items, to);
    case 2:
      return gather_words<2>(codes, item, items, to);
    case 3:
      return gather_words<3>(codes, item, items, to);
    case 4:
      return gather_words<4>(codes, item, items, to);
    case 5:
      return gather_words<5>(codes, item, items, to);
    case 6:
      return gather_words<6>(codes, item, items, to);
    case 7:
      return gather_words<7>(codes, item, items, to);
    case 8:
      return gather_words<8>(codes, item, items, to);
    default:
      for (int64_t i = 0; i < items; ++i) {
        std::memcpy(to + bytes * i, codes + bytes * item[i], static_cast<size_t>(bytes));
      }
  }
}

// Makes a slab ready to be asked: its lines, and where it is sorted, its order.
inline bool prepare_slab(const HistogramProblem& problem, int64_t place) {
  const HammingInputs& in = problem.inputs;
  const HammingTask task(in, problem.cut, (problem.first_slab + place) * problem.cut.blocks);
  uint64_t *lines = problem.lines_of(place), *planes = nullptr;
  if (lines == nullptr) return true;
  if (problem.sorted == nullptr) {
    make_slab(in, task, lines);
    return true;
  }
  const SortedSlab& sorted = problem.sorted[place];
  Workspace memory;
  uint8_t* codes = nullptr;
  memory.add(planes, in.bits * 64);
  memory.add(codes, chunk_items * width_of_gathered(in.bytes));
  if (!memory.allocate()) return false;
  sorted.sort(problem.labels, task.first_item, task.items);
  for (int64_t chunk = 0; chunk < task.chunks; ++chunk) {
    const int64_t first = chunk * chunk_items, items = std::min(chunk_items, task.items - first);
    gather(in.g + task.first_item * in.bytes, in.bytes, sorted.item + first, items, codes);
    make_planes(codes, items, width_of_gathered(in.bytes), in.bits, planes);
    make_carries(planes, in.bits, lines + chunk * 64 * lines_of_step(in.bits, true));
  }
  return true;
}

inline bool run_task(const HistogramProblem& problem, int64_t index) {
  const HammingInputs& in = problem.inputs;
  const int64_t place = index % problem.slabs, block = index / problem.slabs;
  const HammingTask task(in, problem.cut, (problem.first_slab + place) * problem.cut.blocks + block);
  const bool sliced = in.bits <= most_sliced_bits, sorted = problem.sorted != nullptr;
  const int64_t groups = in.bits / 8 + 1, row = 2 * (in.bits + 1);
  Workspace memory;
  uint64_t *masks = nullptr, *counts = nullptr;
  uint8_t *tags = nullptr, *bytes = nullptr;
  Counter* counters = nullptr;
  Flips flips{};
  memory.add(masks, task.chunks * 64);
  memory.add(counts, groups * group_counters);
  memory.add(tags, sorted ? 0 : task.chunks * chunk_items);
  memory.add(bytes, sliced ? 0 : 2 * chunk_items, true);
  memory.add(counters, sliced ? groups * group_counters : 0);
  memory.add(flips.flip, in.bits);
  memory.add(flips.at, in.bits);
  if (!memory.allocate()) return false;
  const uint64_t* lines = problem.lines_of(place);
  if (lines == nullptr) lines = in.planes + task.first_item / chunk_items * in.bits * 64;
  const Slab slab{lines, in.bits, is_carried(in)};
  const int64_t* order = problem.order + task.first_query;
  Relevance relevance(problem.labels, task, order, problem.label_planes, sorted ? problem.sorted + place : nullptr,
                      tags, masks);
  const int64_t absent = task.chunks * chunk_items - task.items;
  for (int64_t i = 0; i < task.queries; ++i) {
    const int64_t query = order[i];
    const uint8_t* code = in.q + query * in.bytes;
    flips.make(code, in.bits, slab.carried);
    relevance.of(query);
    std::memset(counts, 0, static_cast<size_t>(groups * group_counters) * sizeof(uint64_t));
    if (sliced) {
      uint32_t used = 0;
      count_sliced(slab, task.chunks, flips, masks, counters, used);
      for (int64_t h = 0; h < groups; ++h) {
        if ((used >> h & 1) == 0) continue;
        V values[group_counters];
        for (int64_t i = 0; i < group_counters; ++i) values[i] = counters[group_counters * h + i].value();
        Bits::totals(values, counts + group_counters * h);
        Bits::totals(values + 8, counts + group_counters * h + 8);
      }
    } else {
      count_long(slab, task.chunks, flips, masks, bytes, counts);
    }
    // the distance of a code of zeros, which is what stands behind the last item; places behind bit K are no part of it
    int64_t to_zero = 0;
    for (int64_t byte = 0; byte < in.bits / 8; ++byte) to_zero += __builtin_popcount(code[byte]);
    if (in.bits % 8 != 0) to_zero += __builtin_popcount(code[in.bits / 8] & ((1 << in.bits % 8) - 1));
    counts[2 * to_zero] -= static_cast<uint64_t>(absent);
    problem.give(block, query, counts, row);
  }
  return true;
}
