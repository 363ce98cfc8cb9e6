// The nearest codes over any Bits. Included for every level.

#include "kernels/cpu/hamming_planes.inl"

inline uint64_t at_most(const uint8_t* distance, int largest) {
  return Bits::at_most(distance, static_cast<uint8_t>(largest));
}

inline uint64_t at_most(const uint16_t* distance, int largest) {
  alignas(64) uint8_t holds[64];
  for (int i = 0; i < 64; ++i) holds[i] = distance[i] <= largest;
  return Bits::nonzero(holds);
}

// Which of the 64 items from `first` on are there.
inline uint64_t present(int64_t items, int64_t first) {
  return items - first >= 64 ? ~uint64_t{0} : (uint64_t{1} << (items - first)) - 1;
}

// The distances of a query to the items of a slab.
template <class Distance>
struct SlabDistances {
  const Distance* distance;
  int64_t items;

  int64_t count(int largest) const {
    int64_t n = 0;
    for (int64_t first = 0; first < items; first += 64) {
      n += __builtin_popcountll(at_most(distance + first, largest) & present(items, first));
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

// `list` has the items found so far, sorted, `n` of at most k; `fresh`, sorted, come behind them in the gallery.
inline int64_t merge(Nearest list, int64_t n, int64_t k, const uint16_t* distance, const uint32_t* item,
                     int64_t first_item, int64_t fresh) {
  int64_t old = n - 1, take = fresh - 1;
  for (int64_t to = n + fresh - 1; take >= 0; --to) {
    if (old >= 0 && list.distance[old] > distance[take]) {
      if (to < k) {
        list.distance[to] = list.distance[old];
        list.index[to] = list.index[old];
      }
      --old;
    } else {
      if (to < k) {
        list.distance[to] = static_cast<int16_t>(distance[take]);
        list.index[to] = first_item + item[take];
      }
      --take;
    }
  }
  return std::min(k, n + fresh);
}

template <class Distance>
struct SlabSearch {
  const TopkProblem& problem;
  const HammingTask& task;
  int near;  // the cut of the query before
  Distance* distance;
  uint32_t *found_item, *item;  // in the order of the gallery, then sorted
  uint16_t *found_distance, *sorted_distance;
  int64_t* start;  // of a distance among the sorted

  int64_t run(Nearest list, int64_t n) {
    const int64_t k = problem.k;
    const SlabDistances<Distance> slab{distance, task.items};
    const int bits = static_cast<int>(problem.inputs.bits);
    const int largest = n == k ? list.distance[k - 1] - 1 : bits;  // a tie with the last one loses to it
    if (largest < 0) return n;
    const int64_t wanted = std::min(k, task.items);
    int64_t below = 0;
    const int cut = slab.cut(largest, wanted, near, below);
    near = cut;
    const int64_t fresh = collect(cut, wanted - below);
    sort(cut, fresh);
    return merge(list, n, k, sorted_distance, item, task.first_item, fresh);
  }

  // The items closer than the cut, and the first `places` of those at it.
  int64_t collect(int cut, int64_t places) {
    int64_t n = 0;
    for (int64_t first = 0; first < task.items; first += 64) {
      uint64_t chosen = at_most(distance + first, cut) & present(task.items, first);
      if (chosen == 0) continue;
      const uint64_t closer = cut > 0 ? at_most(distance + first, cut - 1) & chosen : 0;
      uint64_t at = chosen & ~closer;
      const int64_t many = __builtin_popcountll(at);
      if (many > places) {
        for (int64_t drop = many - places; drop > 0; --drop) at &= ~(uint64_t{1} << (63 - __builtin_clzll(at)));
      }
      places -= std::min(many, places);
      for (chosen = closer | at; chosen != 0; chosen &= chosen - 1) {
        const int64_t i = first + __builtin_ctzll(chosen);
        found_item[n] = static_cast<uint32_t>(i);
        found_distance[n++] = distance[i];
      }
    }
    return n;
  }

  void sort(int cut, int64_t n) {
    for (int d = 0; d <= cut; ++d) start[d] = 0;
    for (int64_t i = 0; i < n; ++i) ++start[found_distance[i]];
    int64_t before = 0;
    for (int d = 0; d <= cut; ++d) before += std::exchange(start[d], before);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t to = start[found_distance[i]]++;
      item[to] = found_item[i];
      sorted_distance[to] = found_distance[i];
    }
  }
};

template <class Distance>
bool search(const TopkProblem& problem, int64_t part, int64_t block, uint64_t* own_planes) {
  const HammingInputs& in = problem.inputs;
  const HammingCut& cut = problem.cut;
  const int64_t candidates = std::min(problem.k, cut.slab_items()), slab_items = cut.slab_items();
  const bool wide = sizeof(Distance) == 2;
  Workspace memory;
  uint64_t* flips = nullptr;
  uint8_t* bytes = nullptr;
  Distance* numbers = nullptr;
  int64_t *start = nullptr, *counts = nullptr;
  uint32_t *found_item = nullptr, *item = nullptr;
  uint16_t *found_distance = nullptr, *sorted_distance = nullptr;
  memory.add(flips, in.bits);
  memory.add(bytes, wide ? 2 * chunk_items : slab_items);
  memory.add(numbers, wide ? slab_items : 0);
  memory.add(start, in.bits + 1);
  memory.add(counts, query_block, true);
  memory.add(found_item, candidates);
  memory.add(item, candidates);
  memory.add(found_distance, candidates);
  memory.add(sorted_distance, candidates);
  if (!memory.allocate()) return false;
  const int64_t end = std::min(cut.slabs, (part + 1) * problem.parts.slabs_each);
  for (int64_t slab = part * problem.parts.slabs_each; slab < end; ++slab) {
    const HammingTask task(in, cut, slab * cut.blocks + block);
    const uint64_t* planes = planes_of(in, task, own_planes);
    Distance* distance = wide ? numbers : reinterpret_cast<Distance*>(bytes);
    SlabSearch<Distance> slab_search{
        problem,         task, static_cast<int>(in.bits / 2), distance, found_item, item, found_distance,
        sorted_distance, start};
    for (int64_t i = 0; i < task.queries; ++i) {
      const int64_t query = task.first_query + i;
      make_flips(in.q + query * in.bytes, in.bits, flips);
      for (int64_t chunk = 0; chunk < task.chunks; ++chunk) {
        const uint64_t* of_chunk = planes + chunk * in.bits * 64;
        if (!wide) {
          distances(of_chunk, flips, in.bits, bytes + chunk * chunk_items, nullptr);
          continue;
        }
        distances(of_chunk, flips, in.bits, bytes, bytes + chunk_items);
        for (int64_t j = 0; j < chunk_items; ++j) {
          numbers[chunk * chunk_items + j] = static_cast<Distance>(bytes[j] | bytes[chunk_items + j] << 8);
        }
      }
      counts[i] = slab_search.run(problem.list(part, query), counts[i]);
    }
  }
  return true;
}

inline bool run_task(const TopkProblem& problem, int64_t index) {
  const int64_t part = index / problem.cut.blocks, block = index % problem.cut.blocks;
  const HammingInputs& in = problem.inputs;
  Workspace memory;
  uint64_t* own_planes = nullptr;
  memory.add(own_planes, in.planes == nullptr ? problem.cut.slab_chunks * in.bits * 64 : 0);
  if (!memory.allocate()) return false;
  return in.bits <= 255 ? search<uint8_t>(problem, part, block, own_planes)
                        : search<uint16_t>(problem, part, block, own_planes);
}
