// Two vectors as one lane type: every operation of an algorithm is issued for both before the next one begins, so that
// one vector's latencies are spent on the other one. An algorithm written over S gains this by taking Twice<S>.
// Included inside a target region, after simd_<level>.inl.

template <class S>
struct Twice {
  using Real = typename S::Real;
  using W = typename S::V;
  struct V {
    W a, b;
  };
  struct M {
    typename S::M a, b;
  };
  static constexpr int width = 2 * S::width;
  static constexpr bool fused = S::fused;
  static constexpr int largest_shift = S::largest_shift;
  static constexpr bool has_lookup = S::has_lookup;

  static V set(Real v) { return {S::set(v), S::set(v)}; }
  template <class T>
  static V load(const T* p) {
    return {S::load(p), S::load(p + S::width)};
  }
  template <class T>
  static void store(T* p, V v) {
    S::store(p, v.a);
    S::store(p + S::width, v.b);
  }
  template <class T>
  static void stream(T* p, V v) {
    S::stream(p, v.a);
    S::stream(p + S::width, v.b);
  }

  static V add(V x, V y) { return {S::add(x.a, y.a), S::add(x.b, y.b)}; }
  static V sub(V x, V y) { return {S::sub(x.a, y.a), S::sub(x.b, y.b)}; }
  static V mul(V x, V y) { return {S::mul(x.a, y.a), S::mul(x.b, y.b)}; }
  static V div(V x, V y) { return {S::div(x.a, y.a), S::div(x.b, y.b)}; }
  static V fma(V x, V y, V z) { return {S::fma(x.a, y.a, z.a), S::fma(x.b, y.b, z.b)}; }
  static V fms(V x, V y, V z) { return {S::fms(x.a, y.a, z.a), S::fms(x.b, y.b, z.b)}; }
  static V fnma(V x, V y, V z) { return {S::fnma(x.a, y.a, z.a), S::fnma(x.b, y.b, z.b)}; }
  static V min(V x, V y) { return {S::min(x.a, y.a), S::min(x.b, y.b)}; }
  static V max(V x, V y) { return {S::max(x.a, y.a), S::max(x.b, y.b)}; }
  static V at_most(V x, V y) { return {S::at_most(x.a, y.a), S::at_most(x.b, y.b)}; }
  // within 2 ulp, as long as the product of the two is a number: one reciprocal for both
  static V reciprocal(V x) {
    const W both = S::reciprocal(S::mul(x.a, x.b));
    return {S::mul(both, x.b), S::mul(both, x.a)};
  }
  static V abs(V x) { return {S::abs(x.a), S::abs(x.b)}; }
  static V neg(V x) { return {S::neg(x.a), S::neg(x.b)}; }
  static V with_sign(V x, V s) { return {S::with_sign(x.a, s.a), S::with_sign(x.b, s.b)}; }
  static V flip_sign(V x, V s) { return {S::flip_sign(x.a, s.a), S::flip_sign(x.b, s.b)}; }

  static M greater_equal(V x, V y) { return {S::greater_equal(x.a, y.a), S::greater_equal(x.b, y.b)}; }
  static M greater(V x, V y) { return {S::greater(x.a, y.a), S::greater(x.b, y.b)}; }
  static M and_greater(M m, V x, V y) { return {S::and_greater(m.a, x.a, y.a), S::and_greater(m.b, x.b, y.b)}; }
  static V select(M m, V yes, V no) { return {S::select(m.a, yes.a, no.a), S::select(m.b, yes.b, no.b)}; }
  static V mul_where(M m, V x, V y) { return {S::mul_where(m.a, x.a, y.a), S::mul_where(m.b, x.b, y.b)}; }
  static int count(M m) { return S::count(m.a) + S::count(m.b); }
  static bool any(M m) { return S::any(S::either(m.a, m.b)); }

  struct Choice {
    typename S::Choice a, b;
  };
  static Choice choice(uint64_t word, int vector) {
    return {S::choice(word, 2 * vector), S::choice(word, 2 * vector + 1)};
  }
  static V flip(Choice c, V v) { return {S::flip(c.a, v.a), S::flip(c.b, v.b)}; }
  static V keep(Choice c, V v) { return {S::keep(c.a, v.a), S::keep(c.b, v.b)}; }
  static V pick(Choice c, V yes, V no) { return {S::pick(c.a, yes.a, no.a), S::pick(c.b, yes.b, no.b)}; }
  static void split(V u, V& k, V& m) {
    S::split(u.a, k.a, m.a);
    S::split(u.b, k.b, m.b);
  }
  static void add_to(double* sums, V v) {
    S::add_to(sums, v.a);
    S::add_to(sums + S::width, v.b);
  }

  static V scale(V x, V n) { return {S::scale(x.a, n.a), S::scale(x.b, n.b)}; }
  static V scale_normal(V x, V n) { return {S::scale_normal(x.a, n.a), S::scale_normal(x.b, n.b)}; }
  static void half_powers(V n, V& x, V& y) {
    S::half_powers(n.a, x.a, y.a);
    S::half_powers(n.b, x.b, y.b);
  }

  // only where S has them
  static auto table(const Real* row) { return S::table(row); }
  static auto table(const Real* row, Real factor) { return S::table(row, factor); }
  template <class Table, class Index>
  static V lookup(const Table& t, const Index& index) {
    return {S::lookup(t, index.a), S::lookup(t, index.b)};
  }
  static auto bits(V z, int first) { return both(S::bits(z.a, first), S::bits(z.b, first)); }
  static auto quarters(V z, int first) { return both(S::quarters(z.a, first), S::quarters(z.b, first)); }

 private:
  template <class Index>
  struct Both {
    Index a, b;
  };
  template <class Index>
  static Both<Index> both(Index a, Index b) {
    return {a, b};
  }
};
