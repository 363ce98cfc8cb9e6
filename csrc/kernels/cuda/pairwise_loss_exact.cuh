// The pairs in float and double as they are: fused multiply-adds on tiles of h, v and G in shared memory. Included by
// pairwise_loss_kernel.cu, inside namespace rdh::cuda.

// What the kernels of the pairs share. h and v are packed [B, packed_bits] and [N, packed_bits].
template <class To, class Real>
struct PairArguments {
  PairSource source;
  const To *h, *v;
  int packed_bits, columns_of_chunk;
  int64_t pairs;
  const unsigned long long* similar_pairs;
  Real scale;
  bool balanced, need_grad;
  Real* gradient;  // [chunks, B, packed_bits]: sum_j G_ij v_j of each chunk
  double* sums;    // [chunks, row blocks, 2]: values of similar and dissimilar pairs, all dissimilar where unweighted
};

// A block has 16 threads across columns and Threads / 16 down rows; each has R rows and C columns of pairs, as far
// apart as there are threads, so that its accesses to shared memory meet those of its neighbours in other banks.
template <class Real_, int R_, int C_, int Threads>
struct ExactShape {
  using Real = Real_;
  static constexpr int R = R_, C = C_, across = 16, down = Threads / across;
  static constexpr int rows = R * down, columns = C * across, slab = 64;  // bits at a time
  static constexpr int vector = 16 / sizeof(Real), stride = slab + vector, pair_stride = columns + vector;
  static constexpr int vectors = slab / (across * vector);  // of a thread's bits in a slab
  static constexpr int bytes = ((rows + columns) * stride + rows * pair_stride) * static_cast<int>(sizeof(Real));
};
template <class Real, int Threads>
using ExactShapeOf = ExactShape<Real, sizeof(Real) == 4 ? 8 : 4, sizeof(Real) == 4 ? 4 : 2, Threads>;

template <class Real, int N>
struct alignas(sizeof(Real) * N) Vector {
  Real v[N];
};

// Rows `first` and on of a packed matrix, bits `bit` and on: zeros where there is nothing.
template <class Shape, int Rows, int Threads>
__device__ __forceinline__ void load_slab(typename Shape::Real* to, const typename Shape::Real* from, int first,
                                          int count, int packed_bits, int bit) {
  using V = Vector<typename Shape::Real, Shape::vector>;
  constexpr int per_row = Shape::slab / Shape::vector;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < Rows * per_row; i += Threads) {
    const int row = i / per_row, k = i % per_row * Shape::vector;
    V v = {};
    if (first + row < count && bit + k < packed_bits) {
      v = *reinterpret_cast<const V*>(from + int64_t{first + row} * packed_bits + bit + k);
    }
    *reinterpret_cast<V*>(to + row * Shape::stride + k) = v;
  }
}

// theta += h v^T over `width` bits of a slab.
template <class Shape>
__device__ __forceinline__ void add_products(const typename Shape::Real* h, const typename Shape::Real* v, int width,
                                             int tx, int ty, typename Shape::Real (&theta)[Shape::R][Shape::C]) {
  using V = Vector<typename Shape::Real, Shape::vector>;
#pragma unroll 1
  for (int k = 0; k < width; k += Shape::vector) {
    V left[Shape::R];
#pragma unroll
    for (int i = 0; i < Shape::R; ++i) {
      left[i] = *reinterpret_cast<const V*>(h + (ty + Shape::down * i) * Shape::stride + k);
    }
#pragma unroll
    for (int c = 0; c < Shape::C; ++c) {
      const V right = *reinterpret_cast<const V*>(v + (tx + Shape::across * c) * Shape::stride + k);
#pragma unroll
      for (int i = 0; i < Shape::R; ++i) {
#pragma unroll
        for (int u = 0; u < Shape::vector; ++u) theta[i][c] = std::fma(left[i].v[u], right.v[u], theta[i][c]);
      }
    }
  }
}

template <class Shape>
using ThreadGradient = Vector<typename Shape::Real, Shape::vector>[Shape::R][Shape::vectors];

// sums = G v over the columns of the tile: bits vector * tx of each stretch of the slab.
template <class Shape>
__device__ __forceinline__ void gradient_of_tile(const typename Shape::Real* pairs, const typename Shape::Real* v,
                                                 int tx, int ty, ThreadGradient<Shape>& sums) {
  using V = Vector<typename Shape::Real, Shape::vector>;
#pragma unroll
  for (int i = 0; i < Shape::R; ++i) {
#pragma unroll
    for (int q = 0; q < Shape::vectors; ++q) sums[i][q] = {};
  }
#pragma unroll 1
  for (int j = 0; j < Shape::columns; j += Shape::vector) {
    V g[Shape::R];
#pragma unroll
    for (int i = 0; i < Shape::R; ++i) {
      g[i] = *reinterpret_cast<const V*>(pairs + (ty + Shape::down * i) * Shape::pair_stride + j);
    }
#pragma unroll
    for (int u = 0; u < Shape::vector; ++u) {
#pragma unroll
      for (int q = 0; q < Shape::vectors; ++q) {
        const V right =
            *reinterpret_cast<const V*>(v + (j + u) * Shape::stride + Shape::vector * (tx + Shape::across * q));
#pragma unroll
        for (int i = 0; i < Shape::R; ++i) {
#pragma unroll
          for (int x = 0; x < Shape::vector; ++x) {
            sums[i][q].v[x] = std::fma(g[i].v[u], right.v[x], sums[i][q].v[x]);
          }
        }
      }
    }
  }
}

template <class Shape>
__device__ __forceinline__ void add_to(ThreadGradient<Shape>& total, const ThreadGradient<Shape>& sums) {
#pragma unroll
  for (int i = 0; i < Shape::R; ++i) {
#pragma unroll
    for (int q = 0; q < Shape::vectors; ++q) {
#pragma unroll
      for (int x = 0; x < Shape::vector; ++x) total[i][q].v[x] += sums[i][q].v[x];
    }
  }
}

// Adds a tile's gradient of one slab to the chunk's in memory, or is the first to write there.
template <class Shape>
__device__ __forceinline__ void add_to_chunk(const ThreadGradient<Shape>& sums, typename Shape::Real* gradient, int row,
                                             int rows, int packed_bits, int bit, int tx, bool is_first) {
  using V = Vector<typename Shape::Real, Shape::vector>;
#pragma unroll
  for (int i = 0; i < Shape::R; ++i) {
#pragma unroll
    for (int q = 0; q < Shape::vectors; ++q) {
      const int k = bit + Shape::vector * (tx + Shape::across * q);
      if (row + Shape::down * i >= rows || k >= packed_bits) continue;
      V* const at = reinterpret_cast<V*>(gradient + int64_t{row + Shape::down * i} * packed_bits + k);
      V sum = sums[i][q];
      if (!is_first) {
        const V before = *at;
#pragma unroll
        for (int x = 0; x < Shape::vector; ++x) sum.v[x] += before.v[x];
      }
      *at = sum;
    }
  }
}

// Slabs: of 64 bits each, whose gradient is in registers; 0 is any number of them, whose gradient is in memory. Blocks:
// that a multiprocessor is to have room for, which is what limits registers.
template <class Real, int Slabs, int Blocks, int Threads>
__global__ void __launch_bounds__(Threads, Blocks) exact_kernel(PairArguments<Real, Real> a) {
  using Shape = ExactShapeOf<Real, Threads>;
  static_assert(Threads % 64 == 0);
  constexpr int R = Shape::R, C = Shape::C, kept = Slabs > 0 ? Slabs : 1;
  DYN_SMEM(Real, memory);
  SHARED(double, slots, [2][Threads / 32]);
  Real* const h = memory;
  Real* const v = h + Shape::rows * Shape::stride;
  Real* const pairs = v + Shape::columns * Shape::stride;

  // a warp is 8 threads across and 4 down
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int tx = lane % 8 + 8 * (warp % 2), ty = lane / 8 + 4 * (warp / 2);
  const int rows = a.source.row_count, row = static_cast<int>(blockIdx.x) * Shape::rows;
  const int first = static_cast<int>(blockIdx.y) * a.columns_of_chunk;
  const int last = smaller(a.source.column_count, first + a.columns_of_chunk);
  const int slabs = Slabs > 0 ? Slabs : (a.packed_bits + Shape::slab - 1) / Shape::slab;
  Real* const chunk = a.gradient + int64_t{blockIdx.y} * rows * a.packed_bits;
  const PairOptions<Real> options = {
      a.balanced, a.source.asymmetric,
      pair_weights<Real>(a.balanced, a.pairs, a.balanced ? static_cast<int64_t>(*a.similar_pairs) : 0)};
  Real* const own_pairs = pairs + ty * Shape::pair_stride + tx;
  const auto row_of = [&](int i) { return row + ty + Shape::down * i; };
  double similar_total = 0, dissimilar_total = 0;
  ThreadGradient<Shape> gradient[kept] = {};

  for (int column = first; column < last; column += Shape::columns) {
    const auto column_of = [&](int c) { return column + tx + Shape::across * c; };
    const uint32_t similar = similar_pairs<R, C>(a.source, row_of, column_of);
    Real theta[R][C] = {};
    for (int s = 0; s < slabs; ++s) {
      const int bit = s * Shape::slab;
      __syncthreads();
      if (Slabs != 1 || column == first) load_slab<Shape, Shape::rows, Threads>(h, a.h, row, rows, a.packed_bits, bit);
      load_slab<Shape, Shape::columns, Threads>(v, a.v, column, a.source.column_count, a.packed_bits, bit);
      __syncthreads();
      add_products<Shape>(h, v, smaller(Shape::slab, a.packed_bits - bit), tx, ty, theta);
    }
#pragma unroll
    for (int i = 0; i < R; ++i) {
#pragma unroll
      for (int c = 0; c < C; ++c) own_pairs[Shape::down * i * Shape::pair_stride + Shape::across * c] = theta[i][c];
    }
    const bool is_plain =
        !options.balanced && !options.asymmetric && is_whole_tile(a.source, row, Shape::rows, column, Shape::columns);
    const uint32_t valid = is_plain ? 0 : valid_pairs<R, C>(a.source, row_of, column_of);
    const uint32_t transposed = options.asymmetric ? transposed_pairs<R, C>(a.source, row_of, column_of) : 0;
    PairSums<Real> similar_sums, dissimilar_sums;
#pragma unroll 1
    for (int i = 0; i < R; ++i) {  // through shared memory and not unrolled: 32 pairs at once are too many registers
      Real* const some = own_pairs + Shape::down * i * Shape::pair_stride;
      Real x[C];
#pragma unroll
      for (int c = 0; c < C; ++c) x[c] = some[Shape::across * c];
      if (is_plain) {
        plain_pairs<true>(x, a.scale, similar >> (i * C), dissimilar_sums);
      } else {
        any_pairs<true>(x, a.scale, similar >> (i * C), transposed >> (i * C), valid >> (i * C), options, similar_sums,
                        dissimilar_sums);
      }
#pragma unroll
      for (int c = 0; c < C; ++c) some[Shape::across * c] = x[c];
    }
    if (!is_plain) similar_total += similar_sums.total();
    dissimilar_total += dissimilar_sums.total();
    if (!a.need_grad) continue;
    __syncthreads();
    // from the last slab, which is there, to the first
    const auto gradient_of_slab = [&](int slab, ThreadGradient<Shape>& sums) {
      if (slab + 1 < slabs) {
        __syncthreads();
        load_slab<Shape, Shape::columns, Threads>(v, a.v, column, a.source.column_count, a.packed_bits,
                                                  slab * Shape::slab);
        __syncthreads();
      }
      gradient_of_tile<Shape>(pairs, v, tx, ty, sums);
    };
    if constexpr (Slabs == 0) {
      for (int s = slabs - 1; s >= 0; --s) {
        ThreadGradient<Shape> sums;
        gradient_of_slab(s, sums);
        add_to_chunk<Shape>(sums, chunk, row + ty, rows, a.packed_bits, s * Shape::slab, tx, column == first);
      }
    } else {
#pragma unroll
      for (int n = 0; n < Slabs; ++n) {
        ThreadGradient<Shape> sums;
        gradient_of_slab(Slabs - 1 - n, sums);
        add_to<Shape>(gradient[Slabs - 1 - n], sums);
      }
    }
  }

  if (Slabs > 0 && a.need_grad) {
#pragma unroll
    for (int s = 0; s < kept; ++s) {
      add_to_chunk<Shape>(gradient[s], chunk, row + ty, rows, a.packed_bits, s * Shape::slab, tx, true);
    }
  }
  add_over_block<Threads>(similar_total, dissimilar_total, slots);
  if (threadIdx.x == 0) {
    double* const sums = a.sums + 2 * (int64_t{blockIdx.y} * gridDim.x + blockIdx.x);
    sums[0] = similar_total;
    sums[1] = dissimilar_total;
  }
}
