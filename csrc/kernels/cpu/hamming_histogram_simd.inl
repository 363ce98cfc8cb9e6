// The histogram over any Bits. Included for every level.

#include "kernels/cpu/hamming_planes.inl"
//
#include "kernels/cpu/hamming_relevance.inl"
//
#include "kernels/cpu/hamming_slices.inl"

// A count of masks: what has been seen is total * 8 + ones + 2 * twos + 4 * fours, in every lane, with bits in the last
// three and numbers in the first. Where counting is an instruction, total alone, and once.
struct Counter {
  V total, ones, twos, fours;

  [[gnu::always_inline]] void add(const V* masks) {
    if constexpr (Bits::counts) {
      V sum = total;
      for (int i = 0; i < 8; ++i) sum = Bits::add(sum, Bits::count(masks[i]));
      total = sum;
    } else {
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
  }
  uint64_t value() const {
    if constexpr (Bits::counts) return Bits::total(total);
    return 8 * Bits::total(total) + Bits::total(Bits::count(ones)) + 2 * Bits::total(Bits::count(twos)) +
           4 * Bits::total(Bits::count(fours));
  }
};

// Counts the items of some chunks by distance, all and the relevant ones. counters [bits + 1][2], zeros; used: groups
// that have been counted in.
inline void count_sliced(const uint64_t* planes, int64_t chunks, const uint64_t* flips, int64_t bits,
                         const uint64_t* masks, Counter* counters, uint32_t& used) {
  const int digits = digits_of(bits), groups = static_cast<int>(bits / 8 + 1);
  Slices slices;
  V c[most_digits], relevant[8];
  for (int64_t chunk = 0; chunk < chunks; ++chunk, planes += bits * 64, masks += 64) {
    for (int64_t part = 0; part < parts; ++part) {
      for (int step = 0; step < 8; ++step) {
        add_planes(planes + step * bits * 8 + part * Bits::words, flips, bits, c);
        slices.split(step, c, digits, groups);
        relevant[step] = Bits::load(masks + step * 8 + part * Bits::words);
      }
      const bool some_relevant = any_of(relevant);
      for (int h = 0; h < groups; ++h) {
        const V* group = slices.group[h];
        if (!any_of(group)) continue;
        used |= uint32_t{1} << h;
        const int places = static_cast<int>(std::min<int64_t>(8, bits + 1 - 8 * h));
        Counter* counter = counters + 16 * h;
        V both[8];
        for (int i = 0; i < 8; ++i) both[i] = Bits::both(group[i], relevant[i]);
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
inline void count_long(const uint64_t* planes, int64_t chunks, const uint64_t* flips, int64_t bits,
                       const uint64_t* masks, uint8_t* bytes, uint32_t* counts) {
  for (int64_t chunk = 0; chunk < chunks; ++chunk, planes += bits * 64, masks += 64) {
    distances(planes, flips, bits, bytes, bytes + chunk_items);
    for (int64_t run = 0; run < 64; ++run) {
      uint64_t relevant = masks[run % 8 * 8 + run / 8];
      for (int64_t i = run * 64; i < run * 64 + 64; ++i, relevant >>= 1) {
        ++counts[2 * (bytes[i] + 256 * bytes[chunk_items + i]) + (relevant & 1)];
      }
    }
  }
}

inline bool run_task(const HistogramProblem& problem, int64_t index) {
  const HammingInputs& in = problem.inputs;
  const HammingTask task(in, problem.cut, index);
  const bool sliced = in.bits <= most_sliced_bits;
  Workspace memory;
  uint64_t *own_planes = nullptr, *masks = nullptr, *flips = nullptr;
  uint8_t *tags = nullptr, *bytes = nullptr;
  Counter* counters = nullptr;
  uint32_t* counts = nullptr;
  memory.add(own_planes, words_of_own_planes(in, task));
  memory.add(masks, task.chunks * 64);
  memory.add(flips, in.bits);
  memory.add(tags, task.chunks * chunk_items);
  memory.add(bytes, sliced ? 0 : 2 * chunk_items);
  memory.add(counters, sliced ? 2 * (in.bits + 1) : 0);
  memory.add(counts, sliced ? 0 : 2 * (in.bits + 1));
  if (!memory.allocate()) return false;
  const uint64_t* planes = planes_of(in, task, own_planes);
  if (!sliced) std::memset(bytes, 0, static_cast<size_t>(2 * chunk_items));
  const int64_t* order = problem.order + task.first_query;
  Relevance relevance(problem.labels, task, order, problem.label_planes, tags, masks);
  const int64_t absent = task.chunks * chunk_items - task.items;
  for (int64_t i = 0; i < task.queries; ++i) {
    const int64_t query = order[i];
    const uint8_t* code = in.q + query * in.bytes;
    make_flips(code, in.bits, flips);
    relevance.of(query);
    int64_t* out = problem.out + query * 2 * (in.bits + 1);
    const auto give = [&](int64_t distance, uint64_t all, uint64_t relevant) {
      problem.give(out + 2 * distance, static_cast<int64_t>(all));
      problem.give(out + 2 * distance + 1, static_cast<int64_t>(relevant));
    };
    int64_t to_zero = 0;  // the distance of a code of zeros, which is what stands behind the last item
    for (int64_t k = 0; k < in.bits; ++k) to_zero += static_cast<int64_t>(flips[k] & 1);
    if (sliced) {
      uint32_t used = 0;
      std::memset(static_cast<void*>(counters), 0, static_cast<size_t>(2 * (in.bits + 1)) * sizeof(Counter));
      count_sliced(planes, task.chunks, flips, in.bits, masks, counters, used);
      for (int64_t d = 0; d <= in.bits; ++d) {
        if ((used >> (d / 8) & 1) == 0) continue;
        give(d, counters[2 * d].value() - (d == to_zero ? absent : 0), counters[2 * d + 1].value());
      }
    } else {
      std::memset(counts, 0, static_cast<size_t>(2 * (in.bits + 1)) * sizeof(uint32_t));
      count_long(planes, task.chunks, flips, in.bits, masks, bytes, counts);
      counts[2 * to_zero] -= static_cast<uint32_t>(absent);
      for (int64_t d = 0; d <= in.bits; ++d) {
        if (counts[2 * d] + counts[2 * d + 1] != 0) give(d, counts[2 * d] + counts[2 * d + 1], counts[2 * d + 1]);
      }
    }
  }
  return true;
}
