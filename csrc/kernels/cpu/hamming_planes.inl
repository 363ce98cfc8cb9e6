// Bit planes and distances over any Bits; the format: kernels/hamming.h. Included for every level.

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

// The planes of a task's slab: those that the gallery came with, or `own`.
inline int64_t words_of_own_planes(const HammingInputs& in, const HammingTask& task) {
  return in.planes == nullptr ? task.chunks * in.bits * 64 : 0;
}

inline const uint64_t* planes_of(const HammingInputs& in, const HammingTask& task, uint64_t* own) {
  if (in.planes != nullptr) return in.planes + task.first_item / chunk_items * in.bits * 64;
  for (int64_t chunk = 0; chunk < task.chunks; ++chunk) {
    const int64_t first = chunk * chunk_items;
    make_planes(in.g + (task.first_item + first) * in.bytes, std::min(chunk_items, task.items - first), in.bytes,
                in.bits, own + chunk * in.bits * 64);
  }
  return own;
}

// What a query does to a plane: all bits flipped, or none.
inline void make_flips(const uint8_t* code, int64_t bits, uint64_t* flips) {
  for (int64_t k = 0; k < bits; ++k) flips[k] = ~(static_cast<uint64_t>(code[k / 8] >> (k % 8) & 1) - 1);
}

// Adds 2^Level planes to the numbers whose bits are c[0], c[1], ...: c[0 .. Level - 1] take them up, and the carry
// comes back. First: these c are still nothing, and not read. Full adders are two instructions on AVX-512.
template <int Level, bool First>
[[gnu::always_inline]] inline V absorb(const uint64_t* plane, const uint64_t* flip, V* c) {
  if constexpr (Level == 0) {
    return Bits::differ(Bits::load(plane), Bits::set(*flip));
  } else {
    constexpr int half = 1 << (Level - 1);
    const V a = absorb<Level - 1, First>(plane, flip, c);
    const V b = absorb<Level - 1, false>(plane + 8 * half, flip + half, c);
    const V old = c[Level - 1];
    if constexpr (First) {
      c[Level - 1] = Bits::differ(a, b);
      return Bits::both(a, b);
    } else {
      c[Level - 1] = Bits::sum(old, a, b);
      return Bits::carry(old, a, b);
    }
  }
}

constexpr int most_digits = 13;  // of distances up to 4,096

// Takes up 2^Level planes, if there are so many, and lets the carry ripple.
template <int Level>
[[gnu::always_inline]] inline void absorb_some(const uint64_t*& plane, const uint64_t*& flip, int64_t& left, V* c,
                                               int digits) {
  if (left < (1 << Level)) return;
  V carry = absorb<Level, false>(plane, flip, c);
  for (int i = Level; i < digits; ++i) {
    const V old = c[i];
    c[i] = Bits::differ(old, carry);
    carry = Bits::both(old, carry);
  }
  plane += 8 << Level;
  flip += 1 << Level;
  left -= 1 << Level;
}

inline int digits_of(int64_t bits) { return 64 - __builtin_clzll(static_cast<uint64_t>(bits)); }

// Calls use(a constant) with the number of digits where it is one of the usual, of 16 to 255 bits, else with 0: loops
// over digits are short, and are to be unrolled.
template <class Use>
[[gnu::always_inline]] inline void with_digits(int digits, Use use) {
  switch (digits) {
    case 5:
      return use(std::integral_constant<int, 5>());
    case 6:
      return use(std::integral_constant<int, 6>());
    case 7:
      return use(std::integral_constant<int, 7>());
    case 8:
      return use(std::integral_constant<int, 8>());
    default:
      return use(std::integral_constant<int, 0>());
  }
}

// The digits of the distances of one register of items; there are at least three, those above the highest are 0. A
// function of its own: a call costs nothing beside it, and what is unrolled here is long.
[[gnu::noinline]] inline void add_planes(const uint64_t* plane, const uint64_t* flip, int64_t bits, V* c) {
  const int digits = digits_of(bits);
  int64_t taken = 0;
  if (bits >= 64) {
    c[6] = absorb<6, true>(plane, flip, c);
    taken = 64;
  } else if (bits >= 32) {
    c[5] = absorb<5, true>(plane, flip, c);
    taken = 32;
  } else if (bits >= 16) {
    c[4] = absorb<4, true>(plane, flip, c);
    taken = 16;
  }
  if (bits == taken) return;
  for (int i = taken == 0 ? 0 : digits_of(taken); i < std::max(digits, 3); ++i) c[i] = Bits::zero();
  plane += 8 * taken;
  flip += taken;
  int64_t left = bits - taken;
  while (left >= 64) absorb_some<6>(plane, flip, left, c, digits);
  absorb_some<5>(plane, flip, left, c, digits);
  absorb_some<4>(plane, flip, left, c, digits);
  absorb_some<3>(plane, flip, left, c, digits);
  absorb_some<2>(plane, flip, left, c, digits);
  absorb_some<1>(plane, flip, left, c, digits);
  absorb_some<0>(plane, flip, left, c, digits);
}

// The digits of one register of items as numbers, where the items are in the chunk: low bytes, and high ones where
// there are more than eight digits.
inline void spread(const V* c, int digits, int64_t step, int64_t part, uint8_t* low, uint8_t* high) {
  const auto* words = reinterpret_cast<const uint64_t*>(c);  // as every vector may be read
  const auto start = [&](int64_t lane) { return (part * Bits::words + lane) * 512 + step * 64; };
  with_digits(digits, [&](auto usual) {
    const int number = usual > 0 ? usual : std::min(digits, 8);
    for (int64_t lane = 0; lane < Bits::words; ++lane) {
      Bits::numbers(words + lane, Bits::words, number, low + start(lane));
    }
  });
  if (digits <= 8) return;
  for (int64_t lane = 0; lane < Bits::words; ++lane) {
    Bits::numbers(words + 8 * Bits::words + lane, Bits::words, digits - 8, high + start(lane));
  }
}

// The distances of a chunk in the order of the items: their low bytes, and their high ones where `bits` is above 255.
inline void distances(const uint64_t* planes, const uint64_t* flips, int64_t bits, uint8_t* low, uint8_t* high) {
  V c[most_digits];
  const int digits = digits_of(bits);
  for (int64_t step = 0; step < 8; ++step) {
    for (int64_t part = 0; part < parts; ++part) {
      add_planes(planes + step * bits * 8 + part * Bits::words, flips, bits, c);
      spread(c, digits, step, part, low, high);
    }
  }
}
