// The products of the pairwise loss, written once over the lanes S of a level. Both of its products are
//   c[r][lane] (+)= sum_t a(r, t) b[t][lane]
// with a broadcast: theta of columns r and rows in lanes (t: bits), and the gradient of rows r and bits in lanes
// (t: columns). `Rows` by `Vectors` sums stay in registers over all t: with AVX-512 24 of the 32, which keeps two
// multiply-adds per cycle fed by less than two loads. What is added to is added to last: a sum of few terms is rounded
// less than one that goes on from a large number.

// a(r, t) is at a + r a_row + t a_step, b[t] at b + t b_step, c[r] at c + r c_row.
template <class S>
struct Operands {
  using Real = typename S::Real;
  const Real* a;
  int64_t a_row, a_step;
  const Real* b;
  int64_t b_step;
  Real* c;
  int64_t c_row;
  int64_t steps;
};

// Inline, by value: called, it would end in a vzeroupper and read its operands again after every store. Two terms a
// turn are slower, and multiply-adds that take their factor from memory are no faster.
template <class S, int Rows, int Vectors, bool Add>
RDH_HD void product_in_registers(const Operands<S> o) {
  using V = typename S::V;
  using Real = typename S::Real;
  V sum[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < Vectors; ++i) sum[r][i] = S::set(0);
  }
  const Real *a = o.a, *b = o.b;
  const int64_t a_row = o.a_row, a_step = o.a_step, b_step = o.b_step;
  for (int64_t t = o.steps; t > 0; --t, a += a_step, b += b_step) {
    V column[Vectors];
#pragma GCC unroll 4
    for (int i = 0; i < Vectors; ++i) column[i] = S::load(b + i * S::width);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const V broadcast = S::set(a[r * a_row]);
#pragma GCC unroll 4
      for (int i = 0; i < Vectors; ++i) sum[r][i] = S::fma(broadcast, column[i], sum[r][i]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < Vectors; ++i) {
      Real* c = o.c + r * o.c_row + i * S::width;
      S::store(c, Add ? S::add(S::load(c), sum[r][i]) : sum[r][i]);
    }
  }
}

// `rows` rows of `Vectors` vectors: blocks of `Most` rows, and what is left by fours, twos and ones. Never inline: the
// loops above need all general registers, too, for addresses.
template <class S, int Vectors, int Most, bool Add>
__attribute__((noinline)) void product_of_rows(Operands<S> o, int64_t rows) {
  const auto block = [&o, &rows](int taken) {
    o.a += taken * o.a_row;
    o.c += taken * o.c_row;
    rows -= taken;
  };
  while (rows >= Most) {
    product_in_registers<S, Most, Vectors, Add>(o);
    block(Most);
  }
  while (rows >= 4) {
    product_in_registers<S, 4, Vectors, Add>(o);
    block(4);
  }
  if (rows >= 2) {
    product_in_registers<S, 2, Vectors, Add>(o);
    block(2);
  }
  if (rows >= 1) product_in_registers<S, 1, Vectors, Add>(o);
}

// The whole product, `vectors` vectors wide.
template <class S, bool Add>
void product(Operands<S> o, int64_t rows, int64_t vectors) {
  constexpr int wide = S::registers == 32 ? 4 : 2;
  while (vectors > 0) {
    const int64_t taken = vectors < wide ? vectors : wide;
    if constexpr (wide == 4) {
      if (taken == 4) product_of_rows<S, 4, 6, Add>(o, rows);
      if (taken == 3) product_of_rows<S, 3, 8, Add>(o, rows);
    }
    if (taken == 2) product_of_rows<S, 2, wide == 4 ? 12 : 6, Add>(o, rows);
    if (taken == 1) product_of_rows<S, 1, 8, Add>(o, rows);
    o.b += taken * S::width;
    o.c += taken * S::width;
    vectors -= taken;
  }
}
