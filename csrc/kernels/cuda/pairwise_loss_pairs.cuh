// What a kernel of the pairwise loss knows of pairs: which are similar and which count, and the value and derivative of
// one. Included by pairwise_loss_kernel.cu, inside namespace rdh::cuda.

// Similarity as kernels read it. Rows and columns have the numbers of their classes (a column that shares a class with
// no row has no_class) or the words of their labels, word w of item i at w * count + i.
struct PairSource {
  Similarity kind;
  bool with_diagonal, asymmetric;  // asymmetric: a matrix whose S_ji is wanted, too
  bool matrix_floating;
  int matrix_bytes;
  int row_count, column_count;
  int64_t words;
  const uint32_t *rows, *columns;
  const void* matrix;
  int64_t matrix_row, matrix_column;
};

constexpr uint32_t no_class = 0xFFFFFFFFu;

__device__ __forceinline__ bool matrix_element(const PairSource& s, int64_t i, int64_t j) {
  const int64_t at = i * s.matrix_row + j * s.matrix_column;
  uint64_t bits;
  if (s.matrix_bytes == 1) {
    bits = static_cast<const uint8_t*>(s.matrix)[at];
  } else if (s.matrix_bytes == 2) {
    bits = static_cast<const uint16_t*>(s.matrix)[at];
  } else if (s.matrix_bytes == 4) {
    bits = static_cast<const uint32_t*>(s.matrix)[at];
  } else {
    bits = static_cast<const uint64_t*>(s.matrix)[at];
  }
  if (s.matrix_floating) bits &= ~(uint64_t{1} << (8 * s.matrix_bytes - 1));
  return bits != 0;
}

// The pairs of one thread are R rows and C columns, row_of(i) and column_of(c); bit i * C + c of a mask is one of them.
// Rows and columns behind the last stand for the last: `valid_pairs` tells.
template <int R, int C, class Rows, class Columns>
__device__ __forceinline__ uint32_t similar_pairs(const PairSource& s, Rows row_of, Columns column_of) {
  static_assert(R * C <= 32);
  const auto row = [&](int i) { return row_of(i) < s.row_count ? row_of(i) : s.row_count - 1; };
  const auto column = [&](int c) { return column_of(c) < s.column_count ? column_of(c) : s.column_count - 1; };
  uint32_t mask = 0;
  if (s.kind == Similarity::matrix) {
#pragma unroll 1
    for (int i = 0; i < R; ++i) {
#pragma unroll
      for (int c = 0; c < C; ++c) mask |= uint32_t{matrix_element(s, row(i), column(c))} << (i * C + c);
    }
  } else if (s.kind == Similarity::class_ids) {
    uint32_t columns[C];
#pragma unroll
    for (int c = 0; c < C; ++c) columns[c] = s.columns[column(c)];
#pragma unroll
    for (int i = 0; i < R; ++i) {
      const uint32_t own = s.rows[row(i)];
#pragma unroll
      for (int c = 0; c < C; ++c) mask |= uint32_t{own == columns[c]} << (i * C + c);
    }
  } else {
    constexpr int some = R < 4 ? R : 4;  // rows at a time: pairs of all would take too many registers
#pragma unroll 1
    for (int from = 0; from < R; from += some) {
      const uint32_t *row_words = s.rows, *column_words = s.columns;
      uint32_t shared[some * C] = {};
      for (int64_t w = 0; w < s.words; ++w, row_words += s.row_count, column_words += s.column_count) {
        uint32_t columns[C];
#pragma unroll
        for (int c = 0; c < C; ++c) columns[c] = column_words[column(c)];
#pragma unroll
        for (int i = 0; i < some; ++i) {
          const uint32_t own = row_words[row(from + i)];
#pragma unroll
          for (int c = 0; c < C; ++c) shared[i * C + c] |= own & columns[c];
        }
      }
      uint32_t part = 0;
#pragma unroll
      for (int p = 0; p < some * C; ++p) part |= uint32_t{shared[p] != 0} << p;
      mask |= part << (from * C);
    }
  }
  return mask;
}

// S_ji of the same pairs, of a matrix.
template <int R, int C, class Rows, class Columns>
__device__ __forceinline__ uint32_t transposed_pairs(const PairSource& s, Rows row_of, Columns column_of) {
  PairSource t = s;
  t.matrix_row = s.matrix_column;
  t.matrix_column = s.matrix_row;
  return similar_pairs<R, C>(t, row_of, column_of);
}

template <int R, int C, class Rows, class Columns>
__device__ __forceinline__ uint32_t valid_pairs(const PairSource& s, Rows row_of, Columns column_of) {
  uint32_t mask = 0;
#pragma unroll
  for (int i = 0; i < R; ++i) {
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const bool inside = row_of(i) < s.row_count && column_of(c) < s.column_count;
      mask |= uint32_t{inside && (s.with_diagonal || row_of(i) != column_of(c))} << (i * C + c);
    }
  }
  return mask;
}

// Whether all pairs of a tile count.
__device__ __forceinline__ bool is_whole_tile(const PairSource& s, int row, int rows, int column, int columns) {
  if (row + rows > s.row_count || column + columns > s.column_count) return false;
  return s.with_diagonal || row + rows <= column || column + columns <= row;
}

// --- one pair --------------------------------------------------------------------------------------------------------

// exp(-a), a >= 0, below 2^-126 zero. `Careful`: within 4 ulp also for large a, by the residue of a log2(e).
template <bool Careful>
__device__ __forceinline__ float decay(float a_) {
  if constexpr (!Careful) {
    return ptx::ex2_approx(a_ * -1.442695041f);
  } else {
    const float a = a_ > 200.0f ? 200.0f : a_;  // an infinite one would make a NaN of the residue; a NaN stays one
    const float u = a * -1.442695041f;
    const float e = ptx::ex2_approx(u);
    const float residue = std::fma(a, -1.925963033e-8f, std::fma(a, -1.442695041f, -u));
    return std::fma(e, residue * 0.6931471806f, e);
  }
}
template <bool Careful>
__device__ __forceinline__ double decay(double a) {
  return std::exp(-a);
}

__device__ __forceinline__ float reciprocal(float x) { return ptx::rcp_approx(x); }
__device__ __forceinline__ double reciprocal(double x) { return 1 / x; }

template <class Real>
struct PairWeights {
  Real similar, dissimilar;
};

// |S| / |S1| and |S| / |S0|, or ones.
template <class Real>
__device__ __forceinline__ PairWeights<Real> pair_weights(bool balanced, int64_t pairs, int64_t similar) {
  if (!balanced) return {Real{1}, Real{1}};
  const int64_t dissimilar = pairs - similar;
  const Real all = static_cast<Real>(pairs);
  return {all / static_cast<Real>(similar > 1 ? similar : 1), all / static_cast<Real>(dissimilar > 1 ? dissimilar : 1)};
}

// Of the pairs of one thread in one tile, 32 at most, of one kind: the sum of max(z, 0), and the product of 1 + e less
// one, whose logarithm is the rest.
template <class Real>
struct PairSums {
  Real positive = 0, product = 0;

  __device__ __forceinline__ void add(Real z, Real e) {
    positive += z > 0 ? z : Real{0};
    product = std::fma(product, e, product + e);
  }
  __device__ __forceinline__ double total() const {
    return static_cast<double>(positive) + static_cast<double>(std::log1p(product));
  }
};

// What makes pairs of a tile not all alike: weights, pairs that do not count, another S in the other role.
template <class Real>
struct PairOptions {
  bool balanced, asymmetric;
  PairWeights<Real> weights;
};

// Turns the theta of some pairs, of which bit c of the masks is pair c, into G, the derivatives of what both roles add
// (half of it where S is symmetric), and adds their values to the sums of their kind; all are `dissimilar` where
// nothing is weighted.
template <bool Careful, class Real, int C>
__device__ __forceinline__ void plain_pairs(Real (&theta)[C], Real scale, uint32_t similar, PairSums<Real>& sums) {
#pragma unroll
  for (int c = 0; c < C; ++c) {
    const bool s = similar >> c & 1;
    const Real x = theta[c] * scale, z = s ? -x : x;
    const Real e = decay<Careful>(std::fabs(z)), one = reciprocal(1 + e);
    const Real sigmoid = z < 0 ? e * one : one;
    sums.add(z, e);
    theta[c] = s ? -sigmoid : sigmoid;
  }
}

template <bool Careful, class Real, int C>
__device__ __forceinline__ void any_pairs(Real (&theta)[C], Real scale, uint32_t similar, uint32_t transposed,
                                          uint32_t valid, const PairOptions<Real>& options,
                                          PairSums<Real>& similar_sums, PairSums<Real>& dissimilar_sums) {
#pragma unroll
  for (int c = 0; c < C; ++c) {
    const bool counts = valid >> c & 1, s = similar >> c & 1;
    const Real x = counts ? theta[c] * scale : Real{0}, z = s ? -x : x;
    const Real e = counts ? decay<Careful>(std::fabs(x)) : Real{0}, one = reciprocal(1 + e);
    const bool apart = options.balanced && s;
    dissimilar_sums.add(apart ? Real{0} : z, apart ? Real{0} : e);
    similar_sums.add(apart ? z : Real{0}, apart ? e : Real{0});
    Real g = (s ? -options.weights.similar : options.weights.dissimilar) * (z < 0 ? e * one : one);
    if (options.asymmetric) {
      const bool t = transposed >> c & 1;
      g += (t ? -options.weights.similar : options.weights.dissimilar) * ((t ? -x : x) < 0 ? e * one : one);
    }
    theta[c] = counts ? g : Real{0};
  }
}

// The totals of a block, in its first thread; the warps' own are in `slots`.
template <int Threads>
__device__ __forceinline__ void add_over_block(double& a, double& b, double (&slots)[2][Threads / 32]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    a += __shfl_down_sync(0xFFFFFFFFu, a, offset);
    b += __shfl_down_sync(0xFFFFFFFFu, b, offset);
  }
  if (lane == 0) {
    slots[0][warp] = a;
    slots[1][warp] = b;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < Threads / 32; ++i) {
    a += slots[0][i];
    b += slots[1][i];
  }
}
