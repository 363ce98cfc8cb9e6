// Packing over any Bits. Included for every level.

// h >= 0 of the types of an element; NaN is not. 16-bit types are compared as they are stored: positive up to infinity,
// or -0.
inline bool is_set(float h) { return h >= 0; }
inline bool is_set(double h) { return h >= 0; }
inline bool is_set(BFloat16 h) { return h.bits <= 0x7F80 || h.bits == 0x8000; }
inline bool is_set(Float16 h) { return h.bits <= 0x7C00 || h.bits == 0x8000; }

// Whether there was NaN among many elements: -1 in lanes that have met some. It stays in lanes, because to bring it
// down to one bit takes longer than a word. In the compilers' own vectors, as wide as those of the level.
template <class T>
class NanSeen {
 public:
  [[gnu::always_inline]] void look_at_64(const T* h) {
    for (int i = 0; i < 64; i += lanes) {
      V v;
      std::memcpy(&v, h + i, sizeof v);
      if constexpr (is_16_bit) {
        seen_ |= (v & 0x7FFF) > infinity;
      } else {
        seen_ |= v != v;
      }
    }
  }
  bool any() const {
    Integer all = 0;
    for (int i = 0; i < lanes; ++i) all |= seen_[i];
    return all != 0;
  }

 private:
  static constexpr bool is_16_bit = sizeof(T) == 2;
  static constexpr int16_t infinity = std::is_same_v<T, BFloat16> ? 0x7F80 : 0x7C00;
  static constexpr int lanes = sizeof(Bits::V) / sizeof(T);
  using Integer = std::conditional_t<is_16_bit, int16_t, std::conditional_t<sizeof(T) == 4, int32_t, int64_t>>;
  using Lane = std::conditional_t<is_16_bit, int16_t, T>;
  typedef Lane V __attribute__((vector_size(sizeof(Bits::V))));
  typedef Integer Seen __attribute__((vector_size(sizeof(Bits::V))));
  Seen seen_{};
};

// Asks for the 64 elements that lie half a page ahead: the hardware's own prefetcher stops at the end of each page.
template <class T>
[[gnu::always_inline]] inline void prefetch_64(const T* h) {
  const auto ahead = reinterpret_cast<uintptr_t>(h) + 2048;  // beyond the end, too, where it does nothing
  for (size_t i = 0; i < 64 * sizeof(T); i += 64) __builtin_prefetch(reinterpret_cast<const char*>(ahead + i));
}

// Returns whether there was NaN. A row may end anywhere in a word: a word is always made of 64 elements, of which the
// next row's are cut off, and what is written behind the row is what the next row writes over.
template <class T>
bool pack_rows(const T* h, int64_t rows, int64_t bits, uint8_t* codes) {
  if (bits % 8 == 0) {  // no places between rows: one long row
    bits *= rows;
    rows = 1;
  }
  const int64_t bytes = (bits + 7) / 8;
  const T* const h_end = h + rows * bits;
  const uint8_t* const codes_end = codes + rows * bytes;
  alignas(64) uint8_t set[64];
  alignas(64) T last[64] = {};
  NanSeen<T> nan;
  for (int64_t row = 0; row < rows; ++row, h += bits, codes += bytes) {
    for (int64_t first = 0; first < bits; first += 64) {
      const T* from = h + first;
      if (const int64_t left = h_end - from; left < 64) {
        std::memcpy(last, from, static_cast<size_t>(left) * sizeof(T));
        from = last;
      }
      prefetch_64(from);
      for (int i = 0; i < 64; ++i) set[i] = is_set(from[i]);
      nan.look_at_64(from);
      const int64_t count = std::min<int64_t>(64, bits - first);
      const uint64_t word = Bits::nonzero(set) & (~uint64_t{0} >> (64 - count));
      uint8_t* const to = codes + first / 8;
      if (codes_end - to >= 8) {
        std::memcpy(to, &word, 8);
      } else {
        std::memcpy(to, &word, static_cast<size_t>((count + 7) / 8));
      }
    }
  }
  return nan.any();
}

inline bool pack(Element element, const void* h, int64_t rows, int64_t bits, uint8_t* codes) {
  switch (element) {
    case Element::f32:
      return pack_rows(static_cast<const float*>(h), rows, bits, codes);
    case Element::f64:
      return pack_rows(static_cast<const double*>(h), rows, bits, codes);
    case Element::bf16:
      return pack_rows(static_cast<const BFloat16*>(h), rows, bits, codes);
    case Element::f16:
      return pack_rows(static_cast<const Float16*>(h), rows, bits, codes);
  }
  return false;
}
