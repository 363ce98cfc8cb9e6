// Where items stand in the order of (distance, gallery index), without sorting. Included by the .cu files of the top k
// and of the stable ranks, inside namespace rdh::cuda, behind hamming_scan.cuh.
//
//   count    every lane counts the items (and the relevant ones) of its piece, by distance: `counts`
//   sums     over the slabs of a stream: `starts`
//   starts   over distances, and the streams within a distance, what stands before: `starts` again
//   prefixes over slabs, what the stream has before each: `counts` again
//   ordered  the pairs once more: an item at distance d stands at starts + counts + those its lane met at d before
//
// `counts` are of 32 bits, a column of them for each distance (with labels two: items, relevant ones) of 32 lanes, for
// each work of the launch: (tile, slab). `starts` are of 64 bits and have a column for each tile.

struct Counts {
  uint32_t* counts;  // [slabs, tiles, columns, 32]
  int64_t* starts;   // [tiles, columns, 32]
  int columns;
};

template <int R>
constexpr int kinds = R == no_labels ? 1 : 2;  // of counts for each distance

// Columns of a lane, 32 elements apart.
template <class T>
struct Column {
  T* first;
  __device__ __forceinline__ T& operator[](int64_t column) const { return first[32 * column]; }
};

__device__ __forceinline__ Column<uint32_t> counts_of(const Counts& c, const Lane& me) {
  return {c.counts + me.work * c.columns * 32 + me.lane};
}
__device__ __forceinline__ Column<int64_t> starts_of(const Counts& c, const Lane& me) {
  return {c.starts + me.tile * c.columns * 32 + me.lane};
}

// Long codes: counts stay in memory.
template <int R>
struct TallyInMemory {
  Column<uint32_t> counts;

  __device__ __forceinline__ void four(const int (&d)[4], const bool (&relevant)[4], const bool (&there)[4], int64_t) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (!there[j]) continue;
      ++counts[kinds<R> * d[j]];
      if (R != no_labels && relevant[j]) ++counts[kinds<R> * d[j] + 1];
    }
  }
};

template <int R, int W, int Threads>
__global__ void __launch_bounds__(Threads, 6) count_kernel(Scan s, Counts c) {
  DYN_SMEM(unsigned char, memory);
  const Lane me = Lane::of<Threads>(s);
  if (!me.has_work(s)) return;
  const Column<uint32_t> counts = counts_of(c, me);
  if constexpr (W == 0) {
    for (int column = 0; column < c.columns; ++column) counts[column] = 0;
    TallyInMemory<R> visit{counts};
    scan_long<R>(s, me, reinterpret_cast<LongTile*>(memory)[threadIdx.x / 32], visit);
  } else {
    const Counting<R, W> counting(memory, s, me);
    Tally visit{counting.bins};
    const auto end = [&](int64_t part) {
      for (int d = 0; d <= s.bits; ++d) {
        const uint32_t count = counting.bins[d];
        counts[kinds<R> * d] = (part == 0 ? 0 : counts[kinds<R> * d]) + items_in(count);
        if constexpr (R != no_labels) {
          counts[kinds<R> * d + 1] = (part == 0 ? 0 : counts[kinds<R> * d + 1]) + relevant_in(count);
        }
      }
    };
    scan_in_parts<R, W>(s, me, counting, visit, end);
  }
}

constexpr int batch = 8, column_threads = 128;  // loads that are under way together

// A warp has a column of a tile at a time.
template <int Threads>
__global__ void __launch_bounds__(Threads) sums_kernel(Counts c, int64_t tiles, int64_t slabs) {
  const int64_t stride = tiles * c.columns * 32;
  for (int64_t i = first_item<Threads>(); i < stride; i += item_step<Threads>()) {
    int64_t sum = 0;
    for (int64_t slab = 0; slab < slabs; slab += batch) {
#pragma unroll
      for (int j = 0; j < batch; ++j) sum += slab + j < slabs ? c.counts[(slab + j) * stride + i] : 0;
    }
    c.starts[i] = sum;
  }
}

// A warp has a tile. Of every query the largest distance before which fewer than k items stand goes to cuts [tiles,
// 32].
template <int Kinds, int Threads>
__global__ void __launch_bounds__(Threads)
    starts_kernel(Counts c, Partition p, int64_t tiles, int64_t k, int* __restrict__ cuts) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t tile = first_item<Threads>() / 32;
  if (tile >= tiles) return;
  const Column<int64_t> starts{c.starts + tile * c.columns * 32 + lane};
  int64_t before[Kinds] = {};  // of the query: at smaller distances
  int cut = 0;
  for (int first = 0; first < c.columns; first += batch) {
    int64_t sums[batch];
#pragma unroll
    for (int j = 0; j < batch; ++j) sums[j] = first + j < c.columns ? starts[first + j] : 0;
    int64_t some = 0;
#pragma unroll
    for (int j = 0; j < batch; ++j) some |= sums[j];
    const bool is_empty = !__any_sync(0xFFFFFFFFu, some != 0);  // as most columns of long codes are
#pragma unroll
    for (int j = 0; j < batch; ++j) {
      int64_t up_to = sums[j];  // over the streams of the query
      for (int offset = p.tile; offset < 32 && !is_empty; offset *= 2) {
        const int64_t earlier = __shfl_up_sync(0xFFFFFFFFu, up_to, static_cast<unsigned>(offset));
        if (lane >= offset) up_to += earlier;
      }
      const int64_t all = is_empty ? 0 : __shfl_sync(0xFFFFFFFFu, up_to, 32 - p.tile + lane % p.tile);
      if (first + j < c.columns) {
        starts[first + j] = before[j % Kinds] + up_to - sums[j];
        if (j % Kinds == 0 && before[0] < k) cut = (first + j) / Kinds;
      }
      before[j % Kinds] += all;
    }
  }
  if (cuts != nullptr) cuts[tile * 32 + lane] = cut;
}

// A warp has a column of a tile at a time; columns behind the cut are not needed.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    prefixes_kernel(Counts c, int64_t tiles, int64_t slabs, const int* __restrict__ cuts) {
  const int64_t stride = tiles * c.columns * 32;
  for (int64_t i = first_item<Threads>(); i < stride; i += item_step<Threads>()) {
    if (cuts != nullptr && i / 32 % c.columns > cuts[i / 32 / c.columns * 32 + i % 32]) continue;
    uint32_t before = 0;
    for (int64_t slab = 0; slab < slabs; slab += batch) {
      uint32_t counts[batch];
#pragma unroll
      for (int j = 0; j < batch; ++j) counts[j] = slab + j < slabs ? c.counts[(slab + j) * stride + i] : 0;
#pragma unroll
      for (int j = 0; j < batch; ++j) {
        if (slab + j < slabs) c.counts[(slab + j) * stride + i] = before;
        before += counts[j];
      }
    }
  }
}

// emit(distance, item, items before it, relevant items before it) for every item that is wanted: relevant ones, or,
// without labels, those up to the cut. Four at a time: their loads are under way together.
template <int R, bool IsLong, class Emit>
struct Ordered {
  static constexpr int unrolled = 1;
  Bins bins;  // not of long codes, which count in memory
  Column<uint32_t> counts;
  Column<int64_t> starts;
  int cut;
  Emit emit;

  __device__ __forceinline__ void four(const int (&d)[4], const bool (&relevant)[4], const bool (&there)[4],
                                       int64_t item) {
    bool wanted[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) wanted[j] = there[j] && (R == no_labels ? d[j] <= cut : relevant[j]);
    if (R == no_labels && !(wanted[0] || wanted[1] || wanted[2] || wanted[3])) return;
    uint32_t own[4];
    int64_t before[4], relevant_before[4] = {};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      own[j] = 0;
      before[j] = 0;
      if (R == no_labels ? !wanted[j] : !there[j]) continue;
      if constexpr (IsLong) {
        before[j] = counts[kinds<R> * d[j]]++;
        if (R != no_labels && relevant[j]) relevant_before[j] = counts[kinds<R> * d[j] + 1]++;
      } else {
        own[j] = bins[d[j]];
        bins[d[j]] = own[j] + (R != no_labels && relevant[j] ? 0x10001u : 1u);
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (!wanted[j]) continue;
      before[j] += starts[kinds<R> * d[j]];
      if constexpr (!IsLong) before[j] += counts[kinds<R> * d[j]] + int64_t{items_in(own[j])};
      if constexpr (R != no_labels) {
        relevant_before[j] += starts[kinds<R> * d[j] + 1];
        if constexpr (!IsLong) relevant_before[j] += counts[kinds<R> * d[j] + 1] + int64_t{relevant_in(own[j])};
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (wanted[j]) emit(d[j], item + j, before[j], relevant_before[j]);
    }
  }
};

// The second way over the pairs; returns what `emit` has become.
template <int R, int W, class Emit>
__device__ __forceinline__ Emit in_order(const Scan& s, const Counts& c, const Lane& me, unsigned char* memory, int cut,
                                         Emit emit) {
  const Column<uint32_t> counts = counts_of(c, me);
  const Column<int64_t> starts = starts_of(c, me);
  if constexpr (W == 0) {
    Ordered<R, true, Emit> visit{{}, counts, starts, cut, emit};
    scan_long<R>(s, me, reinterpret_cast<LongTile*>(memory)[threadIdx.x / 32], visit);
    return visit.emit;
  } else {
    const Counting<R, W> counting(memory, s, me);
    Ordered<R, false, Emit> visit{counting.bins, counts, starts, cut, emit};
    const auto end = [&](int64_t part) {
      if (part + s.flushed_items >= s.partition.length) return;
      for (int d = 0; d <= (R == no_labels ? cut : s.bits); ++d) {
        const uint32_t count = counting.bins[d];
        counts[kinds<R> * d] += items_in(count);
        if constexpr (R != no_labels) counts[kinds<R> * d + 1] += relevant_in(count);
      }
    };
    scan_in_parts<R, W>(s, me, counting, visit, end);
    return visit.emit;
  }
}

// --- launching -------------------------------------------------------------------------------------------------------

// Queries go through memory in groups of tiles, so that counts stay below this, or are of one tile and slab; starts are
// at most twice as much.
constexpr int64_t most_count_bytes = int64_t{256} << 20;

inline int64_t column_count(const HammingInputs& in, int kinds_) { return (in.bits + 1) * kinds_; }

inline Sizes sizes_for_counts(int64_t columns) {
  const int64_t fit = most_count_bytes / (columns * 32 * 4);
  return {greatest(1, least(fit, 8192)), 1024, most_flushed_items, most_column_blocks};
}

// Counts of a group of at most sizes.warps tiles.
struct Groups {
  Counts counts;
  int64_t tiles;  // of a group
  int64_t column_blocks;

  Groups(const ScanPlan& plan, int64_t columns, const Sizes& sizes, Memory& memory) {
    const Partition& p = plan.scan.partition;
    column_blocks = sizes.column_blocks;
    tiles = greatest(1, least(p.tiles, sizes.warps));
    counts.columns = static_cast<int>(columns);
    counts.counts = memory.take<uint32_t>(tiles * p.slabs * columns * 32);
    counts.starts = memory.take<int64_t>(tiles * columns * 32);
  }
};

// Up to and with the prefixes, for the tiles of `s`.
template <int R>
void count(const HammingInputs& in, const Scan& s, const Groups& groups, int64_t k, int* cuts, cudaStream_t stream) {
  const Counts& c = groups.counts;
  by_words(in, [&](auto words) {
    constexpr int w = decltype(words)::value;
    LAUNCH((count_kernel<R, w, scan_threads<w>>), scan_blocks<w>(s), scan_threads<w>, (scan_shared_bytes<R, w>(s)),
           stream, s, c);
  });
  const int64_t slabs = s.partition.slabs;
  const auto columns =
      static_cast<unsigned>(least(divided_up(s.tiles * c.columns, column_threads / 32), groups.column_blocks));
  LAUNCH((sums_kernel<column_threads>), columns, column_threads, 0, stream, c, s.tiles, slabs);
  const unsigned tiles = static_cast<unsigned>(divided_up(s.tiles, column_threads / 32));
  LAUNCH((starts_kernel<kinds<R>, column_threads>), tiles, column_threads, 0, stream, c, s.partition, s.tiles, k, cuts);
  LAUNCH((prefixes_kernel<column_threads>), columns, column_threads, 0, stream, c, s.tiles, slabs, cuts);
}

// The largest gallery whose streams have counts of 32 bits.
constexpr int64_t most_counted_items = int64_t{1} << 35;
