// Packing over any Bits. Included for every level.

// h >= 0 of the types of an element; NaN is not. 16-bit types are compared as they are stored: positive up to infinity,
// or -0.
inline bool is_set(float h) { return h >= 0; }
inline bool is_set(double h) { return h >= 0; }
inline bool is_set(BFloat16 h) { return h.bits <= 0x7F80 || h.bits == 0x8000; }
inline bool is_set(Float16 h) { return h.bits <= 0x7C00 || h.bits == 0x8000; }

template <class T>
void pack_rows(const T* h, int64_t rows, int64_t bits, uint8_t* codes) {
  const int64_t bytes = (bits + 7) / 8;
  alignas(64) uint8_t set[64];
  for (int64_t row = 0; row < rows; ++row, h += bits, codes += bytes) {
    for (int64_t first = 0; first < bits; first += 64) {
      const int64_t count = std::min<int64_t>(64, bits - first);
      if (count == 64) {
        for (int i = 0; i < 64; ++i) set[i] = is_set(h[first + i]);
      } else {
        std::memset(set, 0, sizeof set);
        for (int64_t i = 0; i < count; ++i) set[i] = is_set(h[first + i]);
      }
      const uint64_t word = Bits::nonzero(set);
      std::memcpy(codes + first / 8, &word, static_cast<size_t>((count + 7) / 8));
    }
  }
}

inline void pack(Element element, const void* h, int64_t rows, int64_t bits, uint8_t* codes) {
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
}
