// Distances as masks over any Bits: which items are at each of them. Included for every level, after
// hamming_planes.inl.

constexpr int64_t most_sliced_bits = 255;
constexpr int most_groups = 32;  // of eight distances

// Masks of the items whose distance is in group h, and, of which group whatever, at place l in it.
struct Slices {
  alignas(64) V place[8][8], group[most_groups][8];  // [..][step]

  void split(int step, const V* c, int digits, int groups) {
    V low[8];
    Bits::minterms(c[0], c[1], c[2], low);
    for (int l = 0; l < 8; ++l) place[l][step] = low[l];
    V high[most_groups];
    high[0] = Bits::ones();
    int known = 1;
    for (int digit = 3; digit < digits; ++digit) {
      for (int h = known; h < std::min(2 * known, groups); ++h) {  // a group that does not exist takes nothing away
        high[h] = Bits::both(high[h - known], c[digit]);
        high[h - known] = Bits::without(high[h - known], c[digit]);
      }
      known = std::min(2 * known, groups);
    }
    for (int h = 0; h < groups; ++h) group[h][step] = high[h];
  }
};

inline bool any_of(const V* masks) {
  V seen = masks[0];
  for (int i = 1; i < 8; ++i) seen = Bits::either(seen, masks[i]);
  return Bits::any(seen);
}
