// Distances over any Bits: what a query reads of a slab, and adds up. Included for every level.

#include "kernels/cpu/hamming_planes.inl"

// Full adders over the planes of a chunk for every query that there could be; kernels/cpu/hamming_problem.h has the
// format.
inline void make_carries(const uint64_t* planes, int64_t bits, uint64_t* lines) {
  const int64_t step_words = 8 * lines_of_step(bits, true);
  for (int64_t step = 0; step < 8; ++step, planes += 8 * bits, lines += step_words) {
    for (int64_t part = 0; part < parts; ++part) {
      const uint64_t* plane = planes + part * Bits::words;
      uint64_t* to = lines + part * Bits::words;
      V sum = Bits::zero();
      if (bits % 2 != 0) {
        sum = Bits::load(plane);
        plane += 8;
      }
      for (int64_t pair = 0; pair < bits / 2; ++pair, plane += 16, to += 32) {
        const V a = Bits::load(plane), b = Bits::load(plane + 8);
        const V not_a = Bits::without(Bits::ones(), a), not_b = Bits::without(Bits::ones(), b);
        Bits::store(to, Bits::carry(sum, a, b));
        Bits::store(to + 8, Bits::carry(sum, not_a, b));
        Bits::store(to + 16, Bits::carry(sum, a, not_b));
        Bits::store(to + 24, Bits::carry(sum, not_a, not_b));
        sum = Bits::sum(sum, a, b);
      }
      Bits::store(to, sum);
    }
  }
}

// What a task reads of a slab: its planes, or their carries.
struct Slab {
  const uint64_t* lines;
  int64_t bits;
  bool carried;

  const uint64_t* at(int64_t chunk, int64_t step) const {
    return lines + (8 * chunk + step) * 8 * lines_of_step(bits, carried);
  }
};

// Words of memory for what a task reads of its slab, unless it is the planes that the gallery came with.
inline int64_t words_of_slab(const HammingInputs& in, int64_t chunks) {
  const int64_t chunk_of_planes = in.planes == nullptr ? in.bits * 64 : 0;
  if (is_carried(in)) return chunks * 64 * lines_of_step(in.bits, true) + chunk_of_planes;
  return chunks * chunk_of_planes;
}

// Writes down what a task reads of its slab, in the words that this takes.
inline void make_slab(const HammingInputs& in, const HammingTask& task, uint64_t* own) {
  const int64_t first = task.first_item / chunk_items;
  const bool carried = is_carried(in);
  const int64_t chunk_words = 64 * lines_of_step(in.bits, carried);
  for (int64_t chunk = 0; chunk < task.chunks; ++chunk) {
    uint64_t* to = own + chunk * chunk_words;
    if (carried) {
      make_carries(planes_of(in, first + chunk, own + task.chunks * chunk_words), in.bits, to);
    } else {
      planes_of(in, first + chunk, to);
    }
  }
}

// The slab of a task: as it is in `shared`, or in the planes that the gallery came with, or made in `own`.
inline Slab slab_of(const HammingInputs& in, const HammingTask& task, const SharedLines& shared, uint64_t* own) {
  const bool carried = is_carried(in);
  if (const uint64_t* lines = shared.of(task.slab)) return {lines, in.bits, carried};
  if (!carried && in.planes != nullptr) {
    return {in.planes + task.first_item / chunk_items * in.bits * 64, in.bits, false};
  }
  make_slab(in, task, own);
  return {own, in.bits, carried};
}

// What a query does to the lines of a step: which of them it adds up, and whether with all bits flipped. Of planes all,
// flipped where it has a 1. Of carries one of four per pair of bits, namely that for these two bits, both flipped where
// an odd number of the bits before them are 1: then the carry is, too.
struct Flips {
  uint64_t* flip;  // [bits] all ones or zeros
  uint32_t* at;    // [bits / 2] words from the first line of the step; of carries only
  uint64_t parity;

  void make(const uint8_t* code, int64_t bits, bool carried) {
    const auto bit = [&](int64_t k) { return static_cast<uint32_t>(code[k / 8] >> (k % 8) & 1); };
    if (!carried) {
      for (int64_t k = 0; k < bits; ++k) flip[k] = uint64_t{0} - bit(k);
      return;
    }
    uint32_t odd = bits % 2 != 0 ? bit(0) : 0;
    for (int64_t pair = 0; pair < bits / 2; ++pair) {
      const int64_t k = bits % 2 + 2 * pair;
      const uint32_t a = bit(k), b = bit(k + 1);
      at[pair] = static_cast<uint32_t>(8 * (4 * pair + (a ^ odd) + 2 * (b ^ odd)));
      flip[pair] = uint64_t{0} - odd;
      odd ^= a ^ b;
    }
    parity = uint64_t{0} - odd;
  }
};

// The lines that a query adds up, one after the other.
struct Planes {
  const uint64_t *line, *flip;

  V get(int i) const { return Bits::differ(Bits::load(line + 8 * i), Bits::set(flip[i])); }
  Planes behind(int n) const { return {line + 8 * n, flip + n}; }
};

struct Carries {
  const uint64_t* step;
  const uint32_t* at;
  const uint64_t* flip;

  V get(int i) const { return Bits::differ(Bits::load(step + at[i]), Bits::set(flip[i])); }
  Carries behind(int n) const { return {step, at + n, flip + n}; }
};

// Adds 2^Level lines to the numbers whose bits are c[0], c[1], ...: c[0 .. Level - 1] take them up, and the carry comes
// back. First: these c are still nothing, and not read. Full adders are two instructions on AVX-512.
template <int Level, bool First, class Lines>
[[gnu::always_inline]] inline V absorb(Lines lines, V* c) {
  if constexpr (Level == 0) {
    return lines.get(0);
  } else {
    const V a = absorb<Level - 1, First>(lines, c);
    const V b = absorb<Level - 1, false>(lines.behind(1 << (Level - 1)), c);
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

constexpr int most_digits = 16;  // of distances up to 4,096 there are 13, which are also read eight at a time

// Takes up 2^Level lines, if there are so many, and lets the carry ripple.
template <int Level, class Lines>
[[gnu::always_inline]] inline void absorb_some(Lines& lines, int64_t& left, V* c, int digits) {
  if (left < (1 << Level)) return;
  V lower[Level + 1];  // not c itself, which would be written after every addition
  for (int i = 0; i < Level; ++i) lower[i] = c[i];
  V carry = absorb<Level, false>(lines, lower);
  for (int i = 0; i < Level; ++i) c[i] = lower[i];
  for (int i = Level; i < digits; ++i) {
    const V old = c[i];
    c[i] = Bits::differ(old, carry);
    carry = Bits::both(old, carry);
  }
  lines = lines.behind(1 << Level);
  left -= 1 << Level;
}

// The first 2^Level lines.
template <int Level, class Lines>
[[gnu::always_inline]] inline int start_with(Lines& lines, int64_t& left, V* c) {
  V lower[Level];
  c[Level] = absorb<Level, true>(lines, lower);
  for (int i = 0; i < Level; ++i) c[i] = lower[i];
  lines = lines.behind(1 << Level);
  left -= 1 << Level;
  return Level + 1;
}

// Takes up Count lines, of which there are fewer than of those that were taken up before.
template <int Count, int Digits, class Lines>
[[gnu::always_inline]] inline void absorb_rest(Lines lines, V* sum) {
  constexpr int level = std::bit_width(static_cast<unsigned>(Count)) - 1, rest = Count - (1 << level);
  V carry = absorb<level, false>(lines, sum);
#pragma GCC unroll 16
  for (int i = level; i < Digits; ++i) {
    const V old = sum[i];
    sum[i] = Bits::differ(old, carry);
    carry = Bits::both(old, carry);
  }
  if constexpr (rest > 0) absorb_rest<rest, Digits>(lines.behind(1 << level), sum);
}

// The sum of `count` lines: `digits` digits, at least two, which are enough. A function of its own: a call costs
// nothing beside it, and what is unrolled here is long.
template <class Lines>
[[gnu::noinline]] inline void add_lines(Lines lines, int64_t count, V* c, int digits) {
  int64_t left = count;
  int known = 0;
  if (count >= 64) {
    known = start_with<6>(lines, left, c);
  } else if (count >= 32) {
    known = start_with<5>(lines, left, c);
  } else if (count >= 16) {
    known = start_with<4>(lines, left, c);
  } else if (count >= 8) {
    known = start_with<3>(lines, left, c);
  }
  for (int i = known; i < digits; ++i) c[i] = Bits::zero();
  if (left == 0) return;
  while (left >= 64) absorb_some<6>(lines, left, c, digits);
  absorb_some<5>(lines, left, c, digits);
  absorb_some<4>(lines, left, c, digits);
  absorb_some<3>(lines, left, c, digits);
  absorb_some<2>(lines, left, c, digits);
  absorb_some<1>(lines, left, c, digits);
  absorb_some<0>(lines, left, c, digits);
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

// The same for a number of lines that is known: digits stay in registers.
template <int Count, class Lines>
[[gnu::noinline]] inline void add_exactly(Lines lines, V* c) {
  constexpr int digits = std::bit_width(static_cast<unsigned>(Count));
  V sum[digits];
  sum[digits - 1] = absorb<digits - 1, true>(lines, sum);
  if constexpr (Count % (1 << (digits - 1)) != 0) {
    absorb_rest<Count % (1 << (digits - 1)), digits>(lines.behind(1 << (digits - 1)), sum);
  }
  for (int i = 0; i < digits; ++i) c[i] = sum[i];
}

// The digits of the distances of one register of items, at least three of them; those above the highest are 0.
[[gnu::always_inline]] inline void add_slab(const Slab& slab, int64_t chunk, int64_t step, int64_t part,
                                            const Flips& flips, V* c) {
  const uint64_t* lines = slab.at(chunk, step) + part * Bits::words;
  const int digits = std::max(digits_of(slab.bits), 3);
  if (!slab.carried) return add_lines(Planes{lines, flips.flip}, slab.bits, c, digits);
  c[0] = Bits::differ(Bits::load(lines + 32 * (slab.bits / 2)), Bits::set(flips.parity));
  const Carries carries{lines, flips.at, flips.flip};
  switch (Bits::words == 8 ? slab.bits : 0) {  // the usual ones, where registers are many
    case 16:
      return add_exactly<8>(carries, c + 1);
    case 24:
      return add_exactly<12>(carries, c + 1);
    case 32:
      return add_exactly<16>(carries, c + 1);
    case 48:
      return add_exactly<24>(carries, c + 1);
    case 64:
      return add_exactly<32>(carries, c + 1);
    case 128:
      return add_exactly<64>(carries, c + 1);
    default:
      return add_lines(carries, slab.bits / 2, c + 1, digits - 1);
  }
}

// The digits of one register of items as numbers, where the items are in the chunk: low bytes, and high ones where
// there are more than eight digits.
template <class B = Bits>  // or names would be looked up where they are not
inline void spread(const V* c, int digits, int64_t step, int64_t part, uint8_t* low, uint8_t* high) {
  if constexpr (B::transposes) {
    B::numbers_of_lanes(c, std::min(digits, 8), low + step * 64);
    if (digits > 8) B::numbers_of_lanes(c + 8, digits - 8, high + step * 64);
    return;
  }
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

// The distances of a chunk in the order of the items: their low bytes, and their high ones where K is above 255.
inline void distances(const Slab& slab, int64_t chunk, const Flips& flips, uint8_t* low, uint8_t* high) {
  V c[most_digits];
  const int digits = digits_of(slab.bits);
  for (int64_t step = 0; step < 8; ++step) {
    for (int64_t part = 0; part < parts; ++part) {
      add_slab(slab, chunk, step, part, flips, c);
      spread(c, digits, step, part, low, high);
    }
  }
}
