// The pairs with both products on the matrix units, from sm_80 on: inputs in tf32 or bfloat16, sums in float. Included
// by pairwise_loss_kernel.cu, inside namespace rdh::cuda.
//
// A warp has 16 Tiles rows of h in registers, and against a tile of 32 columns: theta comes out of the first product as
// fragments D, is turned into G where it stands, and goes into the second as fragments A. No G in shared memory, and
// the only barrier is the one at which the next tile of v, on its way by cp.async since the last, has landed.
//
// Everything is counted in words of 32 bits, E elements each: a step of a product is 8 words of each row.

template <class To>
struct MmaFormat;

template <>
struct MmaFormat<Tf32> {
  static constexpr int per_word = 1;
  __device__ static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    ptx::mma_tf32(d, a, b);
  }
};
template <>
struct MmaFormat<__nv_bfloat16> {
  static constexpr int per_word = 2;
  __device__ static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    ptx::mma_bf16(d, a, b);
  }
};

template <class To, int Bits_, int Threads>
struct MmaShape {
  using Format = MmaFormat<To>;
  static constexpr int Bits = Bits_;
  static constexpr int tiles = Bits <= 64 ? 2 : 1;              // of 16 rows, to a warp
  static constexpr int column_tiles = 2, columns_at_once = 16;  // of 8 columns
  static constexpr int R = 2 * tiles, C = 2 * column_tiles;     // pairs of a thread
  static constexpr int rows = 16 * tiles * (Threads / 32), columns = 32;
  static constexpr int words = Bits / Format::per_word, steps = words / 8;
  static constexpr int stride = words + 4;  // of a column in shared memory: its banks are others than its neighbours'
};

// A tile of v on its way; columns behind the last are zeros.
template <class Shape, int Threads>
__device__ __forceinline__ void fetch_columns(uint32_t* to, const uint32_t* v, int first, int count) {
  constexpr int per_column = Shape::words / 4;
#pragma unroll
  for (int n = 0; n < Shape::columns * per_column / Threads; ++n) {
    const int i = n * Threads + static_cast<int>(threadIdx.x);
    const int column = i / per_column, word = i % per_column * 4;
    const bool exists = first + column < count;
    const int64_t from = int64_t{exists ? first + column : 0} * Shape::words + word;
    ptx::cp_async<16>(to + column * Shape::stride + word, v + from, exists ? 16 : 0);
  }
}

template <class Shape>
using RowFragments = uint32_t[Shape::tiles][Shape::steps][4];
template <class Shape>
using PairFragments = float[Shape::tiles][Shape::column_tiles][4];
template <class Shape>
using GradientFragments = float[Shape::tiles][Shape::Bits / 8][4];

template <class Shape>
__device__ __forceinline__ void multiply_rows(const RowFragments<Shape>& rows, const uint32_t* tile, int lane,
                                              PairFragments<Shape>& theta) {
#pragma unroll
  for (int n = 0; n < Shape::column_tiles; ++n) {
#pragma unroll
    for (int s = 0; s < Shape::steps; s += 2) {
      uint32_t both[4];
      ptx::ldmatrix_x4<false>(both, tile + (8 * n + lane % 8) * Shape::stride + 8 * s + 4 * (lane / 8));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t right[2] = {both[2 * half], both[2 * half + 1]};
#pragma unroll
        for (int m = 0; m < Shape::tiles; ++m) Shape::Format::multiply(theta[m][n], rows[m][s + half], right);
      }
    }
  }
}

// G of tf32: of 8 columns the products' k-th is column 2 k for k < 4, else 2 k - 7: then a thread has what it needs.
template <class Shape>
__device__ __forceinline__ void multiply_pairs(const PairFragments<Shape>& pairs, const uint32_t* tile, int lane,
                                               GradientFragments<Shape>& gradient, Tf32) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int p = 0; p < Shape::column_tiles; ++p) {
    uint32_t left[Shape::tiles][4];
#pragma unroll
    for (int m = 0; m < Shape::tiles; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // to nearest: the unit itself cuts off
        left[m][i] = __float_as_uint(pairs[m][p][i % 2 * 2 + i / 2]) + 0x1000u;
      }
    }
    const uint32_t* const column = tile + (8 * p + 2 * t) * Shape::stride + g;
#pragma unroll
    for (int n = 0; n < Shape::Bits / 8; ++n) {
      const uint32_t right[2] = {column[8 * n], column[8 * n + Shape::stride]};
#pragma unroll
      for (int m = 0; m < Shape::tiles; ++m) Shape::Format::multiply(gradient[m][n], left[m], right);
    }
  }
}

__device__ __forceinline__ uint32_t bfloat16_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t word;
  memcpy(&word, &pair, sizeof word);
  return word;
}

template <class Shape>
__device__ __forceinline__ void multiply_pairs(const PairFragments<Shape>& pairs, const uint32_t* tile, int lane,
                                               GradientFragments<Shape>& gradient, __nv_bfloat16) {
#pragma unroll
  for (int p = 0; p < Shape::column_tiles; p += 2) {
    uint32_t left[Shape::tiles][4];
#pragma unroll
    for (int m = 0; m < Shape::tiles; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&d)[4] = pairs[m][p + i / 2];
        left[m][i] = bfloat16_pair(d[i % 2 * 2], d[i % 2 * 2 + 1]);
      }
    }
    // the matrices: 8 columns and the 8 behind them, of 8 bits and of the 8 behind those
    const uint32_t* const column = tile + (8 * p + lane % 16) * Shape::stride + 4 * (lane / 16);
#pragma unroll
    for (int n = 0; n < Shape::Bits / 8; n += 2) {
      uint32_t both[4];
      ptx::ldmatrix_x4<true>(both, column + 4 * n);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t right[2] = {both[2 * half], both[2 * half + 1]};
#pragma unroll
        for (int m = 0; m < Shape::tiles; ++m) Shape::Format::multiply(gradient[m][n + half], left[m], right);
      }
    }
  }
}

// pairs(x, i, c): x are the theta of row i and columns c and c + 1 of the thread, two at a time.
template <class Shape, class Pairs>
__device__ __forceinline__ void for_pairs(PairFragments<Shape>& theta, Pairs pairs) {
#pragma unroll
  for (int m = 0; m < Shape::tiles; ++m) {
#pragma unroll
    for (int n = 0; n < Shape::column_tiles; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float x[2] = {theta[m][n][2 * half], theta[m][n][2 * half + 1]};
        pairs(x, 2 * m + half, 2 * n);
        theta[m][n][2 * half] = x[0];
        theta[m][n][2 * half + 1] = x[1];
      }
    }
  }
}

template <class To, int Bits, int Blocks, int Threads>
__global__ void __launch_bounds__(Threads, Blocks) mma_kernel(PairArguments<To, float> a) {
  using Shape = MmaShape<To, Bits, Threads>;
  constexpr int R = Shape::R, C = Shape::C;
  SHARED(uint4, memory, [2][Shape::columns * Shape::stride / 4]);
  SHARED(float2, own_pairs, [R * C / 2][Threads]);
  SHARED(double, slots, [2][Threads / 32]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int g = lane / 4, t = lane % 4;
  const int rows = a.source.row_count, columns = a.source.column_count;
  const int block_row = static_cast<int>(blockIdx.x) * Shape::rows, row = block_row + 16 * Shape::tiles * warp + g;
  const int first = static_cast<int>(blockIdx.y) * a.columns_of_chunk;
  const int last = smaller(columns, first + a.columns_of_chunk);
  const uint32_t *const h = reinterpret_cast<const uint32_t*>(a.h), *const v = reinterpret_cast<const uint32_t*>(a.v);
  const PairOptions<float> options = {
      a.balanced, a.source.asymmetric,
      pair_weights<float>(a.balanced, a.pairs, a.balanced ? static_cast<int64_t>(*a.similar_pairs) : 0)};
  const auto row_of = [&](int i) { return row + 8 * i; };
  const auto tile_of = [&](int turn) { return reinterpret_cast<uint32_t*>(memory[turn]); };

  fetch_columns<Shape, Threads>(tile_of(0), v, first, columns);
  ptx::cp_async_commit();
  RowFragments<Shape> own;
  uint32_t row_class[R];
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const bool exists = row_of(i) < rows;
    const uint32_t* const from = h + int64_t{exists ? row_of(i) : 0} * Shape::words + t;
#pragma unroll
    for (int s = 0; s < Shape::steps; ++s) {
      own[i / 2][s][i % 2] = exists ? from[8 * s] : 0;
      own[i / 2][s][i % 2 + 2] = exists ? from[8 * s + 4] : 0;
    }
    row_class[i] = exists && a.source.kind == Similarity::class_ids ? a.source.rows[row_of(i)] : 0;
  }
  GradientFragments<Shape> gradient = {};
  double similar_total = 0, dissimilar_total = 0;

  for (int column = first, turn = 0; column < last; column += Shape::columns, turn ^= 1) {
    ptx::cp_async_wait<0>();
    __syncthreads();
    if (column + Shape::columns < last) {
      fetch_columns<Shape, Threads>(tile_of(turn ^ 1), v, column + Shape::columns, columns);
      ptx::cp_async_commit();
    }
    const bool is_plain = !options.balanced && !options.asymmetric &&
                          is_whole_tile(a.source, block_row, Shape::rows, column, Shape::columns);
    const bool by_class = is_plain && a.source.kind == Similarity::class_ids;
    PairSums<float> similar_sums, dissimilar_sums;
#pragma unroll 1
    for (int part = 0; part < Shape::columns; part += Shape::columns_at_once) {
      const uint32_t* const tile = tile_of(turn) + part * Shape::stride;
      const auto column_of = [&](int c) { return column + part + 2 * t + c % 2 + c / 2 * 8; };
      uint32_t similar = 0, column_class[C];
      if (by_class) {
#pragma unroll
        for (int c = 0; c < C; ++c) column_class[c] = a.source.columns[column_of(c)];
      } else {
        similar = similar_pairs<R, C>(a.source, row_of, column_of);
      }
      PairFragments<Shape> theta = {};
      multiply_rows<Shape>(own, tile, lane, theta);
      if (by_class) {  // the usual case: no mask is made and taken apart again
        for_pairs<Shape>(theta, [&](float(&x)[2], int i, int c) {
          const bool one = row_class[i] == column_class[c], other = row_class[i] == column_class[c + 1];
          plain_pairs<false>(x, a.scale, uint32_t{one} | uint32_t{other} << 1, dissimilar_sums);
        });
      } else if (is_plain) {
        for_pairs<Shape>(theta, [&](float(&x)[2], int i, int c) {
          plain_pairs<false>(x, a.scale, similar >> (i * C + c), dissimilar_sums);
        });
      } else {
        const uint32_t valid = valid_pairs<R, C>(a.source, row_of, column_of);
        const uint32_t transposed = options.asymmetric ? transposed_pairs<R, C>(a.source, row_of, column_of) : 0;
        // rare, and long: through shared memory and not unrolled, which would take registers from the usual case
        float2* const some = &own_pairs[0][threadIdx.x];
        for_pairs<Shape>(theta, [&](float(&x)[2], int i, int c) { some[(i * C + c) / 2 * Threads] = {x[0], x[1]}; });
#pragma unroll 1
        for (int at = 0; at < R * C; at += 2) {
          float x[2] = {some[at / 2 * Threads].x, some[at / 2 * Threads].y};
          any_pairs<false>(x, a.scale, similar >> at, transposed >> at, valid >> at, options, similar_sums,
                           dissimilar_sums);
          some[at / 2 * Threads] = {x[0], x[1]};
        }
        for_pairs<Shape>(theta, [&](float(&x)[2], int i, int c) {
          x[0] = some[(i * C + c) / 2 * Threads].x;
          x[1] = some[(i * C + c) / 2 * Threads].y;
        });
      }
      if (a.need_grad) multiply_pairs<Shape>(theta, tile, lane, gradient, To{});
    }
    if (!is_plain) similar_total += similar_sums.total();
    dissimilar_total += dissimilar_sums.total();
  }

  if (a.need_grad) {
    float* const chunk = a.gradient + int64_t{blockIdx.y} * rows * Bits;
#pragma unroll
    for (int i = 0; i < R; ++i) {
      if (row_of(i) >= rows) continue;
      float* const to = chunk + int64_t{row_of(i)} * Bits + 2 * t;
#pragma unroll
      for (int n = 0; n < Bits / 8; ++n) {
        const float(&d)[4] = gradient[i / 2][n];
        *reinterpret_cast<float2*>(to + 8 * n) = {d[i % 2 * 2], d[i % 2 * 2 + 1]};
      }
    }
  }
  add_over_block<Threads>(similar_total, dissimilar_total, slots);
  if (threadIdx.x == 0) {
    double* const sums = a.sums + 2 * (int64_t{blockIdx.y} * gridDim.x + blockIdx.x);
    sums[0] = similar_total;
    sums[1] = dissimilar_total;
  }
}
