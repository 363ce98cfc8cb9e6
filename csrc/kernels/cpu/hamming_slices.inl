// Distances as masks over any Bits: which items are at each of them. Included for every level, after
// hamming_adders.inl.

constexpr int most_groups = 32;  // of eight distances

// Masks of the items whose distance is in group h, and, of which group whatever, at place l in it.
struct Slices {
  alignas(64) V place[8][8], group[most_groups][8];  // [..][step]

  void split(int step, const V* c, int digits, int groups) {
    V low[8];
    Bits::minterms(c[0], c[1], c[2], low);
    for (int l = 0; l < 8; ++l) place[l][step] = low[l];
    with_digits(digits, [&](auto usual) { split_high<usual>(step, c, digits, groups); });
  }

 private:
  // Digits: their number, or 0 where it is an unusual one.
  template <int Digits>
  void split_high(int step, const V* c, int digits, int groups) {
    constexpr int most = Digits > 0 ? 1 << (Digits - 3) : most_groups;
    V high[most];
    high[0] = Bits::ones();
    if constexpr (Digits > 0) {
      halve<3, Digits>(high, c, groups);
#pragma GCC unroll 32
      for (int h = 0; h < most; ++h) {
        if (h < groups) group[h][step] = high[h];
      }
    } else {
      for (int digit = 3; digit < digits; ++digit) {
        const int known = 1 << (digit - 3);
        for (int h = 0; h < known; ++h) halve_one(high, h, known, c[digit], groups);
      }
      for (int h = 0; h < groups; ++h) group[h][step] = high[h];
    }
  }

  // With everything unrolled, or the masks would be in memory.
  template <int Digit, int Digits>
  [[gnu::always_inline]] static void halve(V* high, const V* c, int groups) {
    constexpr int known = 1 << (Digit - 3);
#pragma GCC unroll 32
    for (int h = 0; h < known; ++h) halve_one(high, h, known, c[Digit], groups);
    if constexpr (Digit + 1 < Digits) halve<Digit + 1, Digits>(high, c, groups);
  }

  [[gnu::always_inline]] static void halve_one(V* high, int h, int known, V digit, int groups) {
    if (h + known >= groups) return;  // a group that does not exist takes nothing away
    high[h + known] = Bits::both(high[h], digit);
    high[h] = Bits::without(high[h], digit);
  }
};

inline bool any_of(const V* masks) {
  V seen = masks[0];
  for (int i = 1; i < 8; ++i) seen = Bits::either(seen, masks[i]);
  return Bits::any(seen);
}
