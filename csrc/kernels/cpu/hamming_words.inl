// Distances word by word over any Bits, for few items: a chunk of planes costs as much for one as for 4,096. Included
// for every level, after hamming_planes.inl.

// Four registers of words, whose counts fill one register of 16-bit numbers.
constexpr int64_t block_items = 4 * Bits::words;

inline int64_t words_of_code(int64_t bytes) { return (bytes + 7) / 8; }

inline int64_t words_of_blocks(int64_t items, int64_t bytes) {
  return round_up_to(items, block_items) * words_of_code(bytes);
}

// Whether so many items, fewer than a chunk, are faster word by word than as a chunk of planes. For planes a query
// takes a time that grows with the bits, here one that grows with items and words; `slope` and `base` put the limit a
// little below where the two were measured to cross, at 16 to 256 bits. Planes that are there already cost nothing to
// make, blocks at most what `making` queries take to scan them: with few queries that decides.
inline bool words_pay(const HammingInputs& in, int64_t items) {
  constexpr int64_t slope = Bits::counts ? 45 : Bits::words == 8 ? 24 : Bits::words == 4 ? 40 : 16;
  constexpr int64_t base = Bits::counts ? 20 : Bits::words == 8 ? 32 : Bits::words == 4 ? 50 : 100;
  const int64_t making = in.planes != nullptr ? 16 : 0;
  return items * words_of_code(in.bytes) * (in.queries + making) <= in.queries * slope * (base + in.bits);
}

// Codes as blocks, word after word; bytes and items that there are not are 0. Register v has the items v, v + 4, ...:
// counts moved by 16 v bits come to lie in the order of the items.
inline void make_blocks(const uint8_t* codes, int64_t items, int64_t bytes, uint64_t* to) {
  for (int64_t first = 0; first < items; first += block_items) {
    for (int64_t byte = 0; byte < bytes; byte += 8, to += block_items) {
      const uint8_t* code = codes + first * bytes;
      const auto place = [&](int64_t i) { return to + i % 4 * Bits::words + i / 4; };
      if (first + block_items <= items && byte + 8 <= bytes) {
        for (int64_t i = 0; i < block_items; ++i) std::memcpy(place(i), code + i * bytes + byte, 8);
      } else {
        for (int64_t i = 0; i < block_items; ++i) {
          *place(i) = first + i < items ? word_of(code + i * bytes, bytes, byte) : 0;
        }
      }
    }
  }
}

// The distances of a query, by its words, to all items of the blocks. Words: of a code, or 0 where they are `many`.
template <int Words>
inline void scan_blocks(const uint64_t* blocks, int64_t items, const uint64_t* query, int64_t many, int16_t* out) {
  const int64_t words = Words > 0 ? Words : many;
  for (int64_t first = 0; first < items; first += block_items) {
    V c[4];
    for (int64_t word = 0; word < words; ++word, blocks += block_items) {
      const V bits = Bits::set(query[word]);
      for (int v = 0; v < 4; ++v) {
        const V count = Bits::count(Bits::differ(Bits::load(blocks + v * Bits::words), bits));
        c[v] = word == 0 ? count : Bits::add(c[v], count);
      }
    }
    const V low = Bits::either(c[0], Bits::left<16>(c[1])), high = Bits::either(c[2], Bits::left<16>(c[3]));
    uint64_t all[Bits::words];
    Bits::store(all, Bits::either(low, Bits::left<32>(high)));
    if (first + block_items <= items) {
      std::memcpy(out + first, all, sizeof all);
    } else {
      std::memcpy(out + first, all, static_cast<size_t>(items - first) * sizeof *out);
    }
  }
}
