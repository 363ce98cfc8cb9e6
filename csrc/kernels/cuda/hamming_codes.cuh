// What the kernels of the Hamming ops share: sizes of launches, ways through rows, and packed codes as words of 32
// bits. Included by their .cu files, inside namespace rdh::cuda.

constexpr int threads = 256;

inline bool is_aligned(const void* p, uintptr_t to) { return reinterpret_cast<uintptr_t>(p) % to == 0; }

// A few items to a thread, up to a few blocks for each multiprocessor: such kernels stride.
inline unsigned blocks_for(int64_t items) {
  return static_cast<unsigned>(greatest(1, least(divided_up(items, 4 * threads), 2048)));
}

// Row and column of item `row * width + column`, and of those that follow at equal steps: divided once, at the start.
struct Walk {
  int64_t row, column, width, row_step, column_step;

  __device__ __forceinline__ Walk(int64_t item, int64_t step, int64_t width_)
      : row(item / width_), column(item % width_), width(width_), row_step(step / width_), column_step(step % width_) {}

  __device__ __forceinline__ void next() {
    row += row_step;
    column += column_step;
    if (column >= width) {
      column -= width;
      ++row;
    }
  }
};

// --- codes -----------------------------------------------------------------------------------------------------------

// A code of at most 32 Count bits, zeros behind its last byte.
template <int Count>
struct alignas(4 * Count) Words {
  uint32_t w[Count];
};

// Whether rows can be read as they are: as wide as Words, and aligned like them.
template <int Count>
inline bool are_words(const uint8_t* rows, int64_t bytes) {
  return bytes == 4 * Count && is_aligned(rows, 4 * Count);
}

template <int Count>
__device__ __forceinline__ Words<Count> load_words(const uint8_t* row, int bytes, bool as_words) {
  if (as_words) return *reinterpret_cast<const Words<Count>*>(row);
  Words<Count> code = {};
#pragma unroll
  for (int i = 0; i < 4 * Count; ++i) {
    if (i < bytes) code.w[i / 4] |= uint32_t{row[i]} << 8 * (i % 4);
  }
  return code;
}

// Word `at` of a code of any width.
__device__ __forceinline__ uint32_t load_word(const uint8_t* row, int bytes, int at, bool as_words) {
  if (as_words) return reinterpret_cast<const uint32_t*>(row)[at];
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (4 * at + i < bytes) word |= uint32_t{row[4 * at + i]} << 8 * i;
  }
  return word;
}

template <int Count>
__device__ __forceinline__ int distance(const Words<Count>& a, const Words<Count>& b) {
  int sum = 0;
#pragma unroll
  for (int i = 0; i < Count; ++i) sum += __popc(a.w[i] ^ b.w[i]);
  return sum;
}
