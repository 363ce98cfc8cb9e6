// The nearest codes over any Bits. Included for every level.

#include "kernels/cpu/hamming_adders.inl"

// Which of the 64 items of a run of a chunk are there, of `items` in the chunk.
inline uint64_t present(int64_t items, int64_t run) {
  const int64_t left = items - 64 * run;
  return left >= 64 ? ~uint64_t{0} : left <= 0 ? 0 : (uint64_t{1} << left) - 1;
}

// The distances of a query to the items of a slab, as digits: those of a distance are looked at together.
struct SlabDistances {
  uint64_t* digit;  // [chunks][step][digits][lane]
  int digits;
  int64_t items, chunks;

  void compute(const Slab& slab, const Flips& flips) const {
    V c[most_digits];
    uint64_t* to = digit;
    for (int64_t step = 0; step < 8 * chunks; ++step, to += digits * 8) {
      for (int64_t part = 0; part < parts; ++part) {
        add_slab(slab, 0, step, part, flips, c);
        for (int i = 0; i < digits; ++i) Bits::store(to + i * 8 + part * Bits::words, c[i]);
      }
    }
  }

  const uint64_t* at(int64_t chunk, int64_t step) const { return digit + (chunk * 8 + step) * digits * 8; }

  // Calls use(step, part, which items of the register are at distances <= largest) for some chunks. From the lowest
  // digit on: what it decides where those above it are equal.
  template <class Use>
  void compare(int64_t chunk, int64_t count, int largest, Use use) const {
    with_digits(digits, [&](auto usual) {
      const int number = usual > 0 ? usual : digits;
      V bits[most_digits];
      for (int i = 0; i < number; ++i) bits[i] = (largest >> i & 1) != 0 ? Bits::ones() : Bits::zero();
      const uint64_t* of_step = digit + chunk * number * 64;
      for (int64_t step = 0; step < 8 * count; ++step, of_step += number * 8) {
        for (int64_t part = 0; part < parts; ++part) {
          V within = Bits::ones();
          for (int i = 0; i < number; ++i) {
            within = Bits::borrow(Bits::load(of_step + i * 8 + part * Bits::words), bits[i], within);
          }
          use(step, part, within);
        }
      }
    });
  }

  // The same for a chunk, as words in the order of the gallery, of items that are there.
  void at_most(int64_t chunk, int largest, uint64_t* mask) const {
    alignas(64) uint64_t words[64];
    compare(chunk, 1, largest,
            [&](int64_t step, int64_t part, V within) { Bits::store(words + step * 8 + part * Bits::words, within); });
    for (int64_t lane = 0; lane < 8; ++lane) {
      for (int64_t step = 0; step < 8; ++step) mask[8 * lane + step] = words[8 * step + lane];
    }
    if ((chunk + 1) * chunk_items > items) {
      for (int64_t run = 0; run < 64; ++run) mask[run] &= present(items - chunk * chunk_items, run);
    }
  }

  int64_t count(int largest) const {
    V sum = Bits::zero();
    const int64_t whole = items / chunk_items;
    compare(0, whole, largest, [&](int64_t, int64_t, V within) { sum = Bits::add(sum, Bits::count(within)); });
    auto n = static_cast<int64_t>(Bits::total(sum));
    if (whole < chunks) {
      uint64_t mask[64];
      at_most(whole, largest, mask);
      for (uint64_t word : mask) n += __builtin_popcountll(word);
    }
    return n;
  }

  // The smallest t <= largest with `wanted` items (at least one) at distances <= t, else `largest`, and in `below` how
  // many are closer than t. `near` is tried first: the cut of another query is a good guess.
  int cut(int largest, int64_t wanted, int near, int64_t& below) const {
    int low = -1, high = largest;  // too few at low; enough at high, as far as there are
    below = 0;
    for (int t = near, step = 1; low + 1 < high; step *= 2) {
      t = step > 8 ? low + (high - low) / 2 : std::clamp(t, low + 1, high - 1);
      const int64_t n = count(t);
      if (n >= wanted) {
        high = t;
        t -= step;
      } else {
        low = t;
        below = n;
        t += step;
      }
    }
    return high;
  }
};

// An item of a slab and its distance in a word. A slab has at most 2^18 items, and a distance is at most 2^12.
struct Candidate {
  uint32_t word;

  static Candidate of(int64_t item, int distance) { return {static_cast<uint32_t>(item | int64_t{distance} << 18)}; }
  int64_t item() const { return word & 0x3FFFF; }
  int distance() const { return static_cast<int>(word >> 18); }
};

// `list` has the items found so far, sorted, `n` of at most k; `fresh`, sorted, come behind them in the gallery.
inline int64_t merge(Nearest list, int64_t n, int64_t k, const Candidate* fresh, int64_t first_item, int64_t count) {
  int64_t old = n - 1, take = count - 1;
  for (int64_t to = n + count - 1; take >= 0; --to) {
    if (old >= 0 && list.distance[old] > fresh[take].distance()) {
      if (to < k) {
        list.distance[to] = list.distance[old];
        list.index[to] = list.index[old];
      }
      --old;
    } else {
      if (to < k) {
        list.distance[to] = static_cast<int16_t>(fresh[take].distance());
        list.index[to] = first_item + fresh[take].item();
      }
      --take;
    }
  }
  return std::min(k, n + count);
}

constexpr int64_t at_once = 4;    // items written down at a time, whether there are so many or not
constexpr int64_t dense_run = 4;  // of 64 items so many are expected
constexpr int64_t written = 16;   // places behind the last item that may be written to
constexpr int64_t streams = 4;    // of a sort: places in one of them do not wait for those of another

struct SlabSearch {
  const TopkProblem& problem;
  const SlabDistances& slab;
  int64_t first_item;
  int near;                   // the cut of the query before
  Candidate *found, *sorted;  // in the order of the gallery, then of distance
  int64_t* start;             // of a distance among the sorted, [bits + 1][streams]

  int64_t run(Nearest list, int64_t n) {
    const int64_t k = problem.k;
    const int bits = static_cast<int>(problem.inputs.bits);
    const int largest = n == k ? list.distance[k - 1] - 1 : bits;  // a tie with the last one loses to it
    if (largest < 0) return n;
    const int64_t wanted = std::min(k, slab.items);
    int64_t below = 0;
    const int cut = slab.cut(largest, wanted, near, below);
    near = cut;
    int64_t fresh = 0;
    // where several items of a run are expected
    const bool dense = Bits::compresses && slab.digits <= 8 && 64 * wanted >= dense_run * slab.items;
    with_digits(slab.digits, [&](auto usual) {
      fresh = dense ? collect<usual, Bits::compresses>(list, cut, wanted - below)
                    : collect<usual, false>(list, cut, wanted - below);
    });
    if (n > 0) {
      sort(cut, fresh, [&](int64_t to, Candidate candidate) { sorted[to] = candidate; });
      return merge(list, n, k, sorted, first_item, fresh);
    }
    sort(cut, fresh, [&](int64_t to, Candidate candidate) { list.index[to] = first_item + candidate.item(); });
    for (int64_t i = 0, distance = 0; distance <= cut; ++distance) {
      const int64_t end = start[distance * streams + streams - 1];  // behind the last one
      std::fill(list.distance + i, list.distance + end, static_cast<int16_t>(distance));
      i = end;
    }
    return fresh;
  }

  // Writes down items of a run of 64, behind the n that there are. Digits: their number, or 0 where it is an unusual
  // one. Dense: without a branch that depends on how many there are.
  template <int Digits, bool Dense, class B = Bits>  // B: or the name would be looked up where it is not
  int64_t write(Nearest list, uint64_t mask, int64_t chunk, int64_t run, int64_t n) {
    if (!Dense && mask == 0) return n;
    __builtin_prefetch(list.index + n, 1);  // where they will end, which may be in no cache yet
    __builtin_prefetch(list.distance + n, 1);
    alignas(64) uint8_t low[64], high[64];
    const uint64_t* digit = slab.at(chunk, run % 8) + run / 8;
    Bits::numbers(digit, 8, Digits > 0 ? Digits : std::min(slab.digits, 8), low);
    if constexpr (Dense) {
      static_assert(sizeof(Candidate) == 4);
      const auto at = static_cast<uint32_t>(chunk * chunk_items + run * 64);
      return n + B::compress(mask, low, at, &found[n].word);
    }
    const bool wide = Digits == 0 && slab.digits > 8;
    if (wide) Bits::numbers(digit + 64, 8, slab.digits - 8, high);
    const int64_t count = __builtin_popcountll(mask), first = chunk * chunk_items + run * 64;
    int64_t done = 0;
    do {
      for (int64_t i = n + done; i < n + done + at_once; ++i, mask &= mask - 1) {
        const int at = __builtin_ctzll(mask | uint64_t{1} << 63);
        found[i] = Candidate::of(first + at, wide ? low[at] | high[at] << 8 : low[at]);
      }
      done += at_once;
    } while (done < count);
    return n + count;
  }

  // The items closer than the cut, and the first `places` of those at it.
  template <int Digits, bool Dense>
  int64_t collect(Nearest list, int cut, int64_t places) {
    int64_t n = 0;
    uint64_t within[64], closer[64] = {};
    for (int64_t chunk = 0; chunk < slab.chunks; ++chunk) {
      if (cut > 0) slab.at_most(chunk, cut - 1, closer);
      if (places <= 0) {
        for (int64_t run = 0; run < 64; ++run) n = write<Digits, Dense>(list, closer[run], chunk, run, n);
        continue;
      }
      slab.at_most(chunk, cut, within);
      for (int64_t run = 0; run < 64; ++run) {
        uint64_t at = within[run] & ~closer[run];
        const int64_t many = __builtin_popcountll(at);
        for (int64_t drop = std::min(many, many - places); drop > 0; --drop) {
          at &= ~(uint64_t{1} << (63 - __builtin_clzll(at)));
        }
        places -= std::min(many, places);
        n = write<Digits, Dense>(list, closer[run] | at, chunk, run, n);
      }
    }
    return n;
  }

  // A stable counting sort of the n items found: calls put(place, item). There are few distances, and so a counter is
  // changed again before it is written: streams of items have counters of their own.
  template <class Put>
  void sort(int cut, int64_t n, Put put) {
    for (int64_t i = 0; i < (cut + 1) * streams; ++i) start[i] = 0;
    const int64_t each = n / streams;
    const auto counter = [&](Candidate candidate, int64_t stream) -> int64_t& {
      return start[candidate.distance() * streams + stream];
    };
    for (int64_t i = 0; i < each; ++i) {
      for (int64_t stream = 0; stream < streams; ++stream) ++counter(found[stream * each + i], stream);
    }
    for (int64_t i = streams * each; i < n; ++i) ++counter(found[i], streams - 1);
    int64_t before = 0;
    for (int64_t i = 0; i < (cut + 1) * streams; ++i) before += std::exchange(start[i], before);
    const auto place = [&](Candidate candidate, int64_t stream) { put(counter(candidate, stream)++, candidate); };
    for (int64_t i = 0; i < each; ++i) {
      for (int64_t stream = 0; stream < streams; ++stream) place(found[stream * each + i], stream);
    }
    for (int64_t i = streams * each; i < n; ++i) place(found[i], streams - 1);
  }
};

inline bool run_task(const TopkProblem& problem, int64_t index) {
  const HammingInputs& in = problem.inputs;
  const HammingCut& cut = problem.cut;
  const int64_t part = index / cut.blocks, block = index % cut.blocks;
  const int64_t candidates = std::min(problem.k, cut.slab_items());
  const int digits = digits_of(in.bits);
  Workspace memory;
  uint64_t *own = nullptr, *digit = nullptr;
  Flips flips{};
  int64_t *start = nullptr, *counts = nullptr;
  Candidate *found = nullptr, *sorted = nullptr;
  memory.add(own, problem.lines->of(0) != nullptr ? 0 : words_of_slab(in, cut.slab_chunks));
  memory.add(flips.flip, in.bits);
  memory.add(flips.at, in.bits);
  memory.add(digit, cut.slab_chunks * digits * 64);
  memory.add(start, (in.bits + 1) * streams);
  memory.add(counts, query_block, true);
  memory.add(found, candidates + written);
  memory.add(sorted, candidates);
  if (!memory.allocate()) return false;
  const int64_t end = std::min(cut.slabs, (part + 1) * problem.parts.slabs_each);
  for (int64_t slab = part * problem.parts.slabs_each; slab < end; ++slab) {
    const HammingTask task(in, cut, slab * cut.blocks + block);
    const Slab lines = slab_of(in, task, *problem.lines, own);
    const SlabDistances distances{digit, digits, task.items, task.chunks};
    SlabSearch search{problem, distances, task.first_item, static_cast<int>(in.bits / 2), found, sorted, start};
    for (int64_t i = 0; i < task.queries; ++i) {
      const int64_t query = task.first_query + i;
      flips.make(in.q + query * in.bytes, in.bits, lines.carried);
      distances.compute(lines, flips);
      counts[i] = search.run(problem.list(part, query), counts[i]);
    }
  }
  return true;
}
