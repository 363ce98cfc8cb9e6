// 128 bits at a time in the compilers' own vectors: what every CPU has. Included inside a namespace, after all library
// headers; needs <cstdint> and <cstring>. The interface of bits_avx512.inl.

struct Bits {
  typedef uint64_t V __attribute__((vector_size(16)));
  static constexpr int words = 2;
  static constexpr bool counts = false;
  static constexpr bool compresses = false;
  static constexpr bool transposes = false;

  static V zero() { return V{}; }
  static V ones() { return ~V{}; }
  static V set(uint64_t word) { return V{} + word; }
  static V load(const uint64_t* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(uint64_t* p, V v) { std::memcpy(p, &v, sizeof v); }

  static V both(V a, V b) { return a & b; }
  static V without(V a, V b) { return a & ~b; }
  static V either(V a, V b) { return a | b; }
  static V differ(V a, V b) { return a ^ b; }
  static V sum(V a, V b, V c) { return a ^ b ^ c; }
  static V carry(V a, V b, V c) { return (a & b) | ((a ^ b) & c); }
  static V borrow(V a, V b, V c) { return (b & c) | ((b | c) & ~a); }  // carry(~a, b, c)
  static bool any(V v) { return (v[0] | v[1]) != 0; }

  static void minterms(V a, V b, V c, V* out) {
    const V of[4] = {~(b | c), b & ~c, c & ~b, b & c};
    for (int m = 0; m < 4; ++m) {
      out[2 * m] = of[m] & ~a;
      out[2 * m + 1] = of[m] & a;
    }
  }

  static V add(V a, V b) { return a + b; }
  static V subtract(V a, V b) { return a - b; }
  template <int N>
  static V left(V v) {
    return v << N;
  }
  template <int N>
  static V right(V v) {
    return v >> N;
  }
  static V count(V v) {  // numbers of two bits, of four, of eight, and all in the top byte
    const V by_two = V{} + 0x5555555555555555u, by_four = V{} + 0x3333333333333333u;
    const V by_eight = V{} + 0x0F0F0F0F0F0F0F0Fu;
    v -= (v >> 1) & by_two;
    v = (v & by_four) + ((v >> 2) & by_four);
    v = (v + (v >> 4)) & by_eight;
    v += v >> 8;
    v += v >> 16;
    v += v >> 32;
    return v & (V{} + 127u);
  }
  static V before_each(V v, uint64_t& all) {
    all = v[0] + v[1];
    return V{0, v[0]};
  }
  static uint64_t total(V v) { return v[0] + v[1]; }
  static void totals(const V* v, uint64_t* out) {  // of eight
    for (int i = 0; i < 8; ++i) out[i] = total(v[i]);
  }

  // Which of 64 bytes are 0 after `flip`: eight at a time, where 127 is added to the low bits without a carry, and what
  // is left of the high bits are brought side by side by a product.
  static uint64_t zeros(const uint8_t* p, uint64_t flip) {
    constexpr uint64_t low_bits = 0x7F7F7F7F7F7F7F7Fu;
    uint64_t out = 0;
    for (int i = 0; i < 8; ++i) {
      uint64_t word;
      std::memcpy(&word, p + 8 * i, 8);
      word ^= flip;
      const uint64_t high_bits = ~(((word & low_bits) + low_bits) | word | low_bits);
      out |= ((high_bits >> 7) * 0x0102040810204080u >> 56) << (8 * i);
    }
    return out;
  }
  static uint64_t equal(const uint8_t* p, uint8_t value) { return zeros(p, value * 0x0101010101010101u); }
  static uint64_t nonzero(const uint8_t* p) { return ~zeros(p, 0); }

  [[gnu::always_inline]] static void numbers(const uint64_t* planes, int64_t stride, int count, uint8_t* out) {
    for (int eight = 0; eight < 8; ++eight) {
      uint64_t square = 0;  // a row of eight bits per plane
      for (int k = 0; k < count; ++k) square |= (planes[k * stride] >> (8 * eight) & 255) << (8 * k);
      uint64_t t = (square ^ (square >> 7)) & 0x00AA00AA00AA00AAu;  // transposed: 2 x 2, 4 x 4, 8 x 8
      square ^= t ^ (t << 7);
      t = (square ^ (square >> 14)) & 0x0000CCCC0000CCCCu;
      square ^= t ^ (t << 14);
      t = (square ^ (square >> 28)) & 0x00000000F0F0F0F0u;
      square ^= t ^ (t << 28);
      for (int i = 0; i < 8; ++i) out[8 * eight + i] = static_cast<uint8_t>(square >> (8 * i));
    }
  }
};
