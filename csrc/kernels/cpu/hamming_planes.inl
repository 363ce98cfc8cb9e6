// Bit planes over any Bits; the format: kernels/hamming.h. Included for every level.

using V = Bits::V;

constexpr int parts = 8 / Bits::words;  // of a chunk, each eight registers

// From the bits of 64 rows, bit k of row i, to those of 64 planes, bit i of plane k, in every lane by itself.
template <int Distance>
void swap_between(V* row, uint64_t half) {
  const V mask = Bits::set(half);
  for (int i = 0; i < 64; i += 2 * Distance) {
    for (int j = i; j < i + Distance; ++j) {
      const V t = Bits::both(Bits::differ(Bits::right<Distance>(row[j]), row[j + Distance]), mask);
      row[j + Distance] = Bits::differ(row[j + Distance], t);
      row[j] = Bits::differ(row[j], Bits::left<Distance>(t));
    }
  }
}

inline void transpose(V* row) {
  swap_between<32>(row, 0x00000000FFFFFFFF);
  swap_between<16>(row, 0x0000FFFF0000FFFF);
  swap_between<8>(row, 0x00FF00FF00FF00FF);
  swap_between<4>(row, 0x0F0F0F0F0F0F0F0F);
  swap_between<2>(row, 0x3333333333333333);
  swap_between<1>(row, 0x5555555555555555);
}

// Eight bytes of a code from byte `first` on; bytes that it has not are 0.
inline uint64_t word_of(const uint8_t* code, int64_t bytes, int64_t first) {
  uint64_t word = 0;
  if (first + 8 <= bytes) {
    std::memcpy(&word, code + first, 8);
  } else {
    for (int64_t byte = first; byte < bytes; ++byte) word |= static_cast<uint64_t>(code[byte]) << (8 * (byte - first));
  }
  return word;
}

// The planes of one chunk, of `rows` codes (at most 4,096); the places of those that it has not are 0.
inline void make_planes(const uint8_t* codes, int64_t rows, int64_t bytes, int64_t bits, uint64_t* planes) {
  alignas(64) uint64_t words[64 * Bits::words];
  alignas(64) V row[64];
  for (int64_t step = 0; step < 8; ++step) {
    for (int64_t part = 0; part < parts; ++part) {
      for (int64_t first = 0; first < bits; first += 64) {
        const int64_t byte = first / 8;
        for (int64_t lane = 0; lane < Bits::words; ++lane) {
          const int64_t start = (part * Bits::words + lane) * 512 + step * 64;
          uint64_t* to = words + lane;
          if (start + 64 <= rows && byte + 8 <= bytes) {
            const uint8_t* code = codes + start * bytes + byte;
            for (int64_t i = 0; i < 64; ++i) std::memcpy(to + i * Bits::words, code + i * bytes, 8);
          } else {
            for (int64_t i = 0; i < 64; ++i) {
              to[i * Bits::words] = start + i < rows ? word_of(codes + (start + i) * bytes, bytes, byte) : 0;
            }
          }
        }
        for (int i = 0; i < 64; ++i) row[i] = Bits::load(words + i * Bits::words);
        transpose(row);
        const int64_t count = std::min<int64_t>(64, bits - first);
        uint64_t* to = planes + (step * bits + first) * 8 + part * Bits::words;
        for (int64_t k = 0; k < count; ++k) Bits::store(to + k * 8, row[k]);
      }
    }
  }
}

// The planes of a chunk of the gallery: those that it came with, or made in `own`.
inline const uint64_t* planes_of(const HammingInputs& in, int64_t chunk, uint64_t* own) {
  if (in.planes != nullptr) return in.planes + chunk * in.bits * 64;
  const int64_t first = chunk * chunk_items;
  make_planes(in.g + first * in.bytes, std::min(chunk_items, in.gallery - first), in.bytes, in.bits, own);
  return own;
}
