// How the histogram, the top k and the stable ranks go over all pairs. Included by their .cu files, inside namespace
// rdh::cuda, behind hamming_codes.cuh and hamming_planes.cuh.
//
// A lane has one query and one piece of the gallery, and meets the items of the piece in gallery order: what it counts
// is its own, without atomics or votes, and what it counted before an item says where the item stands. A warp has a
// tile of 32 queries and one piece, or a tile of 2 to 16 queries and 16 to 2 pieces; it stages the codes (and class
// ids) of the next items in shared memory, and lanes of the same piece read them together. Warps wait for nobody.
//
// The gallery is cut into streams, as many as a warp has pieces, and a stream into slabs; piece `stream * slabs + slab`
// is the one of that rank in gallery order. A warp's work is a tile of queries and a slab; tiles are neighbours, so
// that warps which run together read the same slab.

// Where relevance comes from.
constexpr int no_labels = 0, by_ids = 1, by_planes = 2;

struct Partition {
  int tile, streams;  // of a warp: queries, and pieces, 32 together
  int shift;          // streams = 1 << shift
  int64_t tiles;
  int64_t slabs, length;  // pieces of a stream, and items of a piece: a multiple of 64
};

// What tests make small.
struct Sizes {
  int64_t warps;          // wanted at a time; with counts in memory also the most
  int64_t least_length;   // of a piece
  int64_t flushed_items;  // counts of 16 bits are taken away after so many items, a multiple of 64 below 65,536
  int64_t column_blocks;  // of kernels over columns of counts, which stride
};

constexpr int64_t most_slabs = 1024, most_flushed_items = 65472, most_column_blocks = 4096;

// A pure function of the shape. Tiles that would mostly be empty are smaller; streams are below 2^32 items.
inline Partition partition_of(int64_t queries, int64_t gallery, const Sizes& sizes) {
  const auto padded = [&](int tile) { return divided_up(queries, tile) * tile; };
  Partition p{32, 1, 0, 0, 1, 64};
  while (p.tile > 8 && padded(p.tile) > queries + queries / 8) p.tile /= 2;
  while (p.tile > 2 && p.tile / 2 >= queries) p.tile /= 2;
  while (p.tile > 2 && gallery / (32 / p.tile) >= int64_t{1} << 31) p.tile /= 2;
  p.streams = 32 / p.tile;
  while (1 << p.shift < p.streams) ++p.shift;
  p.tiles = divided_up(queries, p.tile);
  const int64_t stream = greatest(1, divided_up(gallery, p.streams));
  const int64_t wanted = least(greatest(1, sizes.warps / greatest(1, p.tiles)), most_slabs);
  const int64_t slabs = greatest(1, least(wanted, stream / sizes.least_length));
  p.length = divided_up(divided_up(stream, slabs), 64) * 64;
  p.slabs = divided_up(stream, p.length);
  return p;
}

struct Scan {
  const uint8_t *q, *g;
  int64_t queries, gallery;
  int bytes, bits;
  bool q_as_words, g_as_words;
  const uint32_t* q_words;  // of long codes: word w of query i at w * queries + i

  const int64_t* q_ids;
  const void* g_ids;
  int g_id_bytes;
  const uint32_t* q_labels;  // word w of query i at w * queries + i
  const uint64_t* g_planes;
  int64_t classes;

  Partition partition;
  int64_t first_tile, tiles;  // of this launch
  int64_t flushed_items;
};

// Who a lane is: of idle ones query is the last there is.
struct Lane {
  int lane, stream;
  int64_t work, tile, slab;  // tile: of this launch
  int64_t query;
  bool is_idle;
  int64_t first;       // item of the warp
  int64_t begin, end;  // of the lane's piece; where that lies behind the gallery, end <= begin

  template <int Threads>
  __device__ static __forceinline__ Lane of(const Scan& s) {
    const Partition& p = s.partition;
    Lane me;
    me.lane = static_cast<int>(threadIdx.x) % 32;
    me.work = int64_t{blockIdx.x} * (Threads / 32) + static_cast<int>(threadIdx.x) / 32;
    me.slab = me.work / s.tiles;
    me.tile = me.work - me.slab * s.tiles;
    me.stream = me.lane / p.tile;
    me.query = (s.first_tile + me.tile) * p.tile + me.lane % p.tile;
    me.is_idle = me.query >= s.queries;
    if (me.is_idle) me.query = s.queries - 1;
    me.first = me.slab * p.length;
    me.begin = (me.stream * p.slabs + me.slab) * p.length;
    me.end = me.begin + p.length < s.gallery ? me.begin + p.length : s.gallery;
    return me;
  }

  __device__ __forceinline__ bool has_work(const Scan& s) const { return slab < s.partition.slabs; }

  // What is staged at a slot: item `at + slot / streams` of the warp's pieces in turn.
  __device__ __forceinline__ int64_t item_at(const Scan& s, int64_t at, int slot) const {
    const Partition& p = s.partition;
    return ((slot & (p.streams - 1)) * p.slabs + slab) * p.length + at + (slot >> p.shift);
  }
};

// Of word `at`, the places that codes have.
__device__ __forceinline__ uint32_t places(int bits, int at) {
  const int left = bits - 32 * at;
  return left >= 32 ? ~0u : left <= 0 ? 0u : (1u << left) - 1;
}

__device__ __forceinline__ int64_t load_id(const void* ids, int bytes, int64_t at) {
  if (bytes == 1) return static_cast<const uint8_t*>(ids)[at];
  if (bytes == 2) return static_cast<const int16_t*>(ids)[at];
  if (bytes == 4) return static_cast<const int32_t*>(ids)[at];
  return static_cast<const int64_t*>(ids)[at];
}

// Which of 64 items, the first a multiple of 64, share a label with a query: the planes of its labels, together.
__device__ __forceinline__ uint64_t similar_items(const Scan& s, int64_t query, int64_t item) {
  const int64_t group = item / chunk_items * 8 + item / 64 % 8, run = item / (chunk_items / 8) % 8;
  const uint64_t* const planes = s.g_planes + group * s.classes * 8 + run;
  uint64_t mask = 0;
  for (int64_t w = 0; w < (s.classes + 31) / 32; ++w) {
    uint32_t labels = s.q_labels[w * s.queries + query];
    while (labels != 0) {
      mask |= planes[(32 * w + __ffs(static_cast<int>(labels)) - 1) * 8];
      labels &= labels - 1;
    }
  }
  return mask;
}

// --- codes of at most 128 bits
// -----------------------------------------------------------------------------------------

constexpr int scan_slots = 64;  // items that a warp has staged, of all its streams together

// An item in shared memory, read at once; its class id in the last two words.
template <int R, int W>
struct alignas(R == by_ids ? 16 : 4 * W) Slot {
  static constexpr int count = R != by_ids ? W : W == 4 ? 8 : 4;
  uint32_t w[count];
};

// What a lane compares with.
template <int R, int W>
struct Query {
  Words<W> code;
  uint32_t id[2];

  __device__ __forceinline__ Query(const Scan& s, int64_t query) {
    code = load_words<W>(s.q + query * s.bytes, s.bytes, s.q_as_words);
#pragma unroll
    for (int i = 0; i < W; ++i) code.w[i] &= places(s.bits, i);
    if constexpr (R == by_ids) {
      const auto own = static_cast<uint64_t>(s.q_ids[query]);
      id[0] = static_cast<uint32_t>(own);
      id[1] = static_cast<uint32_t>(own >> 32);
    }
  }
};

template <int R, int W>
__device__ __forceinline__ Slot<R, W> staged(const Scan& s, int64_t item) {
  const Words<W> code = load_words<W>(s.g + item * s.bytes, s.bytes, s.g_as_words);
  Slot<R, W> slot = {};
#pragma unroll
  for (int i = 0; i < W; ++i) slot.w[i] = code.w[i] & places(s.bits, i);
  if constexpr (R == by_ids) {
    const auto id = static_cast<uint64_t>(load_id(s.g_ids, s.g_id_bytes, item));
    slot.w[slot.count - 2] = static_cast<uint32_t>(id);
    slot.w[slot.count - 1] = static_cast<uint32_t>(id >> 32);
  }
  return slot;
}

// Four items at a time go to visit.four(distances, relevant, there, first item), in gallery order.
template <int R, int W, bool Ragged, class Visit>
__device__ __forceinline__ void visit_four(const Query<R, W>& own, const Slot<R, W>* slots, int streams, uint64_t mask,
                                           int64_t item, int64_t left, Visit& visit) {
  int d[4];
  bool relevant[4], there[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const Slot<R, W> slot = slots[j * streams];
    d[j] = 0;
#pragma unroll
    for (int i = 0; i < W; ++i) d[j] += __popc(own.code.w[i] ^ slot.w[i]);
    there[j] = !Ragged || j < left;
    relevant[j] = false;
    if constexpr (R == by_ids) {
      relevant[j] = slot.w[slot.count - 2] == own.id[0] && slot.w[slot.count - 1] == own.id[1];
    }
    if constexpr (R == by_planes) relevant[j] = (static_cast<uint32_t>(mask) >> j & 1) != 0;
  }
  visit.four(d, relevant, there, item);
}

// The items from `from` to before `to` of the lane's piece, both multiples of 64 or the end of it.
template <int R, int W, class Visit>
__device__ __forceinline__ void scan(const Scan& s, const Lane& me, const Query<R, W>& own, Slot<R, W>* slots,
                                     int64_t from, int64_t to, Visit& visit) {
  const Partition& p = s.partition;
  const int streams = p.streams, step = scan_slots >> p.shift;
  uint64_t mask = 0;
  for (int64_t at = from; at < to && me.first + at < s.gallery; at += step) {
    __syncwarp();
    for (int slot = me.lane; slot < scan_slots; slot += 32) {
      const int64_t item = me.item_at(s, at, slot);
      if (item < s.gallery) slots[slot] = staged<R, W>(s, item);
    }
    __syncwarp();
    const int64_t item = me.begin + at, left = me.end - item;
    if constexpr (R == by_planes) {
      if (at % 64 == 0) mask = left > 0 ? similar_items(s, me.query, item) : 0;
    }
    const Slot<R, W>* next = slots + me.stream;
    if (left >= step) {
#pragma unroll(Visit::unrolled)
      for (int i = 0; i < step; i += 4, next += 4 * streams, mask >>= 4) {
        visit_four<R, W, false>(own, next, streams, mask, item + i, 4, visit);
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < left; i += 4, next += 4 * streams, mask >>= 4) {
        visit_four<R, W, true>(own, next, streams, mask, item + i, left - i, visit);
      }
    }
  }
}

// --- longer codes
// ------------------------------------------------------------------------------------------------------

constexpr int long_words = 8, long_items = 8, long_slots = 8 * 16;

// Eight words of the next eight items of each stream.
struct LongTile {
  uint32_t words[long_words][long_slots + 4];  // 4: 4 items x 8 words of a warp go to banks of their own
  int64_t ids[long_slots];
};

template <int R, class Visit>
__device__ __forceinline__ void scan_long(const Scan& s, const Lane& me, LongTile& tile, Visit& visit) {
  const Partition& p = s.partition;
  const int streams = p.streams, slots = long_items * streams, count = (s.bytes + 3) / 4;
  const int64_t id = R == by_ids ? s.q_ids[me.query] : 0;
  uint64_t mask = 0;
  for (int64_t at = 0; at < p.length && me.first + at < s.gallery; at += long_items) {
    int sums[long_items] = {};
    for (int word = 0; word < count; word += long_words) {
      __syncwarp();
      for (int i = me.lane; i < slots * long_words; i += 32) {
        const int slot = i / long_words, w = i % long_words;
        const int64_t item = me.item_at(s, at, slot);
        const bool there = item < s.gallery && word + w < count;
        const uint32_t code = there ? load_word(s.g + item * s.bytes, s.bytes, word + w, s.g_as_words) : 0;
        tile.words[w][slot] = code & places(s.bits, word + w);
      }
      if (R == by_ids && word == 0) {
        for (int slot = me.lane; slot < slots; slot += 32) {
          const int64_t item = me.item_at(s, at, slot);
          if (item < s.gallery) tile.ids[slot] = load_id(s.g_ids, s.g_id_bytes, item);
        }
      }
      __syncwarp();
#pragma unroll
      for (int w = 0; w < long_words; ++w) {
        if (word + w >= count) break;
        const uint32_t own = s.q_words[(word + w) * s.queries + me.query] & places(s.bits, word + w);
#pragma unroll
        for (int j = 0; j < long_items; ++j) sums[j] += __popc(own ^ tile.words[w][j * streams + me.stream]);
      }
    }
    const int64_t item = me.begin + at, left = me.end - item;
    if constexpr (R == by_planes) {
      if (at % 64 == 0) mask = left > 0 ? similar_items(s, me.query, item) : 0;
    }
#pragma unroll
    for (int half = 0; half < long_items; half += 4, mask >>= 4) {
      int d[4];
      bool relevant[4], there[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        d[j] = sums[half + j];
        there[j] = half + j < left;
        relevant[j] = R == by_ids ? tile.ids[(half + j) * streams + me.stream] == id : (mask >> j & 1) != 0;
      }
      visit.four(d, relevant, there, item + half);
    }
  }
}

// --- counting in shared memory
// -------------------------------------------------------------------------------------------

// Counts of a lane, that of distance d 128 d bytes behind the first: one multiply-add to an address.
struct Bins {
  unsigned char* first;

  __device__ __forceinline__ uint32_t& operator[](int d) const { return *reinterpret_cast<uint32_t*>(first + 128 * d); }
};

// A warp's part of the dynamic shared memory, of codes of at most 128 bits: staged items, and the counts of its lanes,
// no two of them in a bank. A word has the number of items, and 65,536 times that of relevant ones.
template <int R, int W>
struct Counting {
  static constexpr int slot_bytes = scan_slots * static_cast<int>(sizeof(Slot<R, W>));

  static __host__ __device__ __forceinline__ int bytes(int bits) { return slot_bytes + (bits + 1) * 32 * 4; }

  Slot<R, W>* slots;
  Bins bins;

  __device__ __forceinline__ Counting(unsigned char* memory, const Scan& s, const Lane& me) {
    unsigned char* const own = memory + static_cast<int>(threadIdx.x) / 32 * bytes(s.bits);
    slots = reinterpret_cast<Slot<R, W>*>(own);
    bins.first = own + slot_bytes + 4 * me.lane;
  }
};

__device__ __forceinline__ uint32_t items_in(uint32_t count) { return count & 0xFFFFu; }
__device__ __forceinline__ uint32_t relevant_in(uint32_t count) { return count >> 16; }

struct Tally {
  static constexpr int unrolled = 2;  // groups of four
  Bins bins;

  __device__ __forceinline__ void four(const int (&d)[4], const bool (&relevant)[4], const bool (&there)[4], int64_t) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (there[j]) bins[d[j]] += relevant[j] ? 0x10001u : 1u;
    }
  }
};

// A piece in parts, behind each of which end(part) has the counts: those of 16 bits do not overflow within one.
template <int R, int W, class Visit, class End>
__device__ __forceinline__ void scan_in_parts(const Scan& s, const Lane& me, const Counting<R, W>& counting,
                                              Visit& visit, End end) {
  const Query<R, W> own(s, me.query);
  for (int64_t part = 0; part < s.partition.length && me.first + part < s.gallery; part += s.flushed_items) {
    for (int d = 0; d <= s.bits; ++d) counting.bins[d] = 0;
    const int64_t to = part + s.flushed_items;
    scan<R, W>(s, me, own, counting.slots, part, to < s.partition.length ? to : s.partition.length, visit);
    end(part);
  }
}

// --- launching
// -----------------------------------------------------------------------------------------------------------

struct Memory {
  char* start;
  int64_t bytes = 0;

  template <class T>
  T* take(int64_t count) {
    T* const taken = reinterpret_cast<T*>(start + bytes);
    bytes += divided_up(count * static_cast<int64_t>(sizeof(T)), 256) * 256;
    return taken;
  }
};

// words [count, rows]: word w of row i of the source at w * rows + i
template <bool IsCodes, int Threads>
__global__ void __launch_bounds__(Threads)
    words_kernel(Rows<IsCodes> source, int64_t rows, int64_t count, uint32_t* words) {
  Walk at(first_item<Threads>(), item_step<Threads>(), rows);
  for (int64_t i = first_item<Threads>(); i < rows * count; i += item_step<Threads>(), at.next()) {
    words[i] = source.word(at.column, at.row);
  }
}

template <bool IsCodes>
void make_words(const Rows<IsCodes>& source, int64_t rows, int64_t count, uint32_t* words, cudaStream_t stream) {
  if (rows * count == 0) return;
  LAUNCH((words_kernel<IsCodes, threads>), blocks_for(rows * count), threads, 0, stream, source, rows, count, words);
}

inline bool is_long(const HammingInputs& in) { return in.bytes > 16; }

// Codes, labels and what is made of them; `labels` is null where there are none.
struct ScanPlan {
  Scan scan{};
  uint32_t *q_words = nullptr, *q_labels = nullptr;
  uint64_t* planes = nullptr;  // of labels that came as rows

  ScanPlan(const HammingInputs& in, const HammingLabels* labels, const Sizes& sizes, Memory& memory)
      : in_(in), labels_(labels) {
    scan.q = in.q;
    scan.g = in.g;
    scan.queries = in.queries;
    scan.gallery = in.gallery;
    scan.bytes = static_cast<int>(in.bytes);
    scan.bits = static_cast<int>(in.bits);
    const auto as_words = [&](const uint8_t* rows) {
      return in.bytes <= 4   ? are_words<1>(rows, in.bytes)
             : in.bytes <= 8 ? are_words<2>(rows, in.bytes)
             : is_long(in)   ? in.bytes % 4 == 0 && is_aligned(rows, 4)
                             : are_words<4>(rows, in.bytes);
    };
    scan.q_as_words = as_words(in.q);
    scan.g_as_words = as_words(in.g);
    scan.partition = partition_of(in.queries, in.gallery, sizes);
    scan.tiles = scan.partition.tiles;
    scan.flushed_items = sizes.flushed_items;
    if (is_long(in)) scan.q_words = q_words = memory.take<uint32_t>(divided_up(in.bytes, 4) * in.queries);
    if (labels == nullptr) return;
    scan.q_ids = labels->q_ids;
    scan.g_ids = labels->g_ids;
    scan.g_id_bytes = labels->g_id_bytes;
    if (labels->kind == LabelKind::class_ids) return;
    scan.classes = labels->classes;
    scan.q_labels = q_labels = memory.take<uint32_t>(divided_up(labels->classes, 32) * in.queries);
    scan.g_planes = labels->g_planes;
    if (labels->kind == LabelKind::multi_hot) {
      scan.g_planes = planes = memory.take<uint64_t>(plane_words(in.gallery, labels->classes));
    }
  }

  // What kernels read of the workspace, made.
  void prepare(cudaStream_t stream) const {
    if (q_words != nullptr) {
      make_words(Rows<true>{in_.q, in_.bytes, scan.q_as_words}, in_.queries, divided_up(in_.bytes, 4), q_words, stream);
    }
    if (q_labels != nullptr) {
      const int64_t classes = labels_->classes;
      make_words(Rows<false>{labels_->q_rows, classes}, in_.queries, divided_up(classes, 32), q_labels, stream);
    }
    if (planes != nullptr) {
      make_planes(Rows<false>{labels_->g_rows, labels_->classes}, in_.gallery, labels_->classes, planes, stream);
    }
  }

 private:
  const HammingInputs& in_;
  const HammingLabels* labels_;
};

template <int W>
constexpr int scan_threads = W == 4 ? 64 : 128;  // so that 48 KB of shared memory suffice

template <int R, int W>
int scan_shared_bytes(const Scan& s) {
  const int warps = scan_threads<W> / 32;
  if constexpr (W == 0) return warps * static_cast<int>(sizeof(LongTile));
  if constexpr (W != 0) return warps * Counting<R, W>::bytes(s.bits);
}

template <int W>
unsigned scan_blocks(const Scan& s) {
  return static_cast<unsigned>(divided_up(s.tiles * s.partition.slabs, scan_threads<W> / 32));
}

// launch(constant W) with the words of the codes, 0 for long ones.
template <int W>
struct WordCount {
  static constexpr int value = W;
};
template <class Launch>
void by_words(const HammingInputs& in, Launch launch) {
  if (in.bytes <= 4) return launch(WordCount<1>());
  if (in.bytes <= 8) return launch(WordCount<2>());
  if (!is_long(in)) return launch(WordCount<4>());
  launch(WordCount<0>());
}
