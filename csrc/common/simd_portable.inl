// Lanes of 16 bytes in the compilers' own vectors: what every CPU has. Included inside a namespace, after all library
// headers; needs <cstdint>, <cstring> and <type_traits>. The interface of simd_avx2.inl as far as algorithms that run
// at this level need it; fma is rounded twice, so a formula must not rest on its being rounded once.

template <class Real_, class Int_>
struct PortableLanes {
  using Real = Real_;
  using Int = Int_;
  static constexpr int width = 16 / sizeof(Real), registers = 16;
  static constexpr bool fused = false;
  typedef Real V __attribute__((vector_size(16)));
  typedef Int M __attribute__((vector_size(16)));
  using Choice = M;  // all bits of a chosen lane

  static V set(Real v) { return V{} + v; }
  static V load(const Real* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  template <class T>
    requires std::is_arithmetic_v<T>
  static V load(const T* p) {
    V v;
    for (int i = 0; i < width; ++i) v[i] = static_cast<Real>(p[i]);
    return v;
  }
  static void store(Real* p, V v) { std::memcpy(p, &v, sizeof v); }
  template <class T>
  static void store(T* p, V v) {
    for (int i = 0; i < width; ++i) p[i] = static_cast<T>(v[i]);
  }

  static V add(V a, V b) { return a + b; }
  static V sub(V a, V b) { return a - b; }
  static V mul(V a, V b) { return a * b; }
  static V div(V a, V b) { return a / b; }
  static V fma(V a, V b, V c) { return a * b + c; }
  static V fnma(V a, V b, V c) { return c - a * b; }
  static V min(V a, V b) { return a < b ? a : b; }  // b where either is NaN
  static V max(V a, V b) { return a > b ? a : b; }
  static V abs(V a) { return V(M(a) & ~sign()); }
  static V neg(V a) { return -a; }
  static V with_sign(V magnitude, V s) { return V(M(magnitude) | (M(s) & sign())); }
  static V at_most(V largest, V a) { return min(largest, abs(a)); }
  static V reciprocal(V a) { return 1 / a; }

  static M greater_equal(V a, V b) { return a >= b; }
  static M greater(V a, V b) { return a > b; }
  static V mul_where(M m, V a, V b) { return m ? a * b : a; }
  static V select(M m, V yes, V no) { return m ? yes : no; }

  static Choice choice(uint64_t word, int vector) {
    M bit{};
    for (int i = 0; i < width; ++i) bit[i] = Int{1} << i;
    return ((M{} + static_cast<Int>(word >> (width * vector) & ((1u << width) - 1))) & bit) != 0;
  }
  static V flip(Choice c, V v) { return V(M(v) ^ (c & sign())); }
  static V keep(Choice c, V v) { return V(M(v) & c); }
  static V pick(Choice c, V yes, V no) { return c ? yes : no; }

  static V scale_normal(V v, V n) { return V(M(v) + (__builtin_convertvector(n, M) << mantissa)); }
  // u = 2^k m, m in [sqrt(1/2), sqrt(2)), for normal u > 0
  static void split(V u, V& k, V& m) {
    const M above = M(u) - root_half;
    k = __builtin_convertvector(above >> mantissa, V);
    m = V((above & ((Int{1} << mantissa) - 1)) + root_half);
  }
  static void add_to(double* sums, V v) {
    for (int i = 0; i < width; ++i) sums[i] += v[i];
  }

 private:
  static constexpr int mantissa = sizeof(Real) == 4 ? 23 : 52;
  static constexpr Int root_half = static_cast<Int>(sizeof(Real) == 4 ? 0x3F3504F3 : 0x3FE6A09E667F3BCD);
  static M sign() { return M{} + static_cast<Int>(Int{1} << (8 * sizeof(Int) - 1)); }
};

using F32 = PortableLanes<float, int32_t>;
using F64 = PortableLanes<double, int64_t>;

// Bit i: byte i of 64 is not 0.
inline uint64_t nonzero_bytes(const uint8_t* p) {
  uint64_t word = 0;
  for (int i = 0; i < 64; ++i) word |= static_cast<uint64_t>(p[i] != 0) << i;
  return word;
}
