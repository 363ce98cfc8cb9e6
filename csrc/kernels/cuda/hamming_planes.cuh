// Bit planes (their format: kernels/hamming.h) of packed codes, and of the labels of items: a class is a bit.
// Included by the .cu files that make planes, inside namespace rdh::cuda, behind hamming_codes.cuh.

// Rows of bits, packed as codes or one to a byte as labels; word w has bits 32 w to 32 w + 31.
template <bool IsCodes>
struct Rows;

template <>
struct Rows<true> {
  const uint8_t* codes;
  int64_t bytes;
  bool as_words;  // bytes is a multiple of 4, and codes aligned to it

  __device__ __forceinline__ uint32_t word(int64_t row, int64_t w) const {
    return load_word(codes + row * bytes, static_cast<int>(bytes), static_cast<int>(w), as_words);
  }
};

template <>
struct Rows<false> {
  const uint8_t* labels;
  int64_t classes;

  __device__ __forceinline__ uint32_t word(int64_t row, int64_t w) const {
    const uint8_t* const from = labels + row * classes + 32 * w;
    const int64_t left = classes - 32 * w;
    uint32_t bits = 0;
#pragma unroll 8
    for (int i = 0; i < (left < 32 ? left : 32); ++i) bits |= uint32_t{from[i] != 0} << i;
    return bits;
  }
};

// Word i of the warp's 32 has bits i of all of them.
__device__ __forceinline__ uint32_t transposed(uint32_t word, int lane) {
  uint32_t kept = 0x0000FFFFu;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2, kept ^= kept << distance) {
    const uint32_t other = __shfl_xor_sync(0xFFFFFFFFu, word, distance);
    word = (lane & distance) == 0 ? (word & kept) | (other & kept) << distance
                                  : (word & ~kept) | (other & ~kept) >> distance;
  }
  return word;
}

// A block has 512 items of a chunk, 64 of each of its eight runs, and 32 bits of them: eight words for each bit, which
// lie side by side. A warp turns 64 items by 32 bits: lane i gets the word of bit i.
template <bool IsCodes, int Threads>
__global__ void __launch_bounds__(Threads)
    planes_kernel(Rows<IsCodes> source, int64_t rows, int64_t bits, uint64_t* planes) {
  SHARED(uint64_t, words, [32][9]);  // 9: lanes of a warp write to banks of their own
  const int me = static_cast<int>(threadIdx.x), lane = me % 32;
  const int64_t parts = (bits + 31) / 32, count = (rows + chunk_items - 1) / chunk_items * 8 * parts;
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const int64_t group = i / parts, part = i - group * parts;
    const int64_t first = group / 8 * chunk_items + group % 8 * 64 + lane;
    for (int run = me / 32; run < 8; run += Threads / 32) {
      const int64_t item = first + run * (chunk_items / 8);
      uint32_t low = 0, high = 0;
      if (item - lane < rows) {
        low = transposed(item < rows ? source.word(item, part) : 0, lane);
        high = transposed(item + 32 < rows ? source.word(item + 32, part) : 0, lane);
      }
      words[lane][run] = uint64_t{high} << 32 | low;
    }
    __syncthreads();
    for (int j = me; j < 32 * 8; j += Threads) {
      const int64_t bit = 32 * part + j / 8;
      if (bit < bits) planes[(group * bits + bit) * 8 + j % 8] = words[j / 8][j % 8];
    }
    __syncthreads();
  }
}

template <bool IsCodes>
void make_planes(const Rows<IsCodes>& source, int64_t rows, int64_t bits, uint64_t* planes, cudaStream_t stream) {
  const int64_t groups = (rows + chunk_items - 1) / chunk_items * 8 * divided_up(bits, 32);
  if (groups == 0) return;
  LAUNCH((planes_kernel<IsCodes, threads>), static_cast<unsigned>(least(divided_up(groups, 4), 8192)), threads, 0,
         stream, source, rows, bits, planes);
}
