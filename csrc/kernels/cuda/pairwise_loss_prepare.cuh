// Before the pairs: h and v in the type of the products, classes numbered, labels packed to words, signs counted.
// Included by pairwise_loss_kernel.cu, inside namespace rdh::cuda. All blocks stride, so any grid will do.

template <class Real>
__device__ __forceinline__ Real load_element(const void* from, Element element, int64_t at) {
  switch (element) {
    case Element::f32:
      return static_cast<Real>(static_cast<const float*>(from)[at]);
    case Element::f64:
      return static_cast<Real>(static_cast<const double*>(from)[at]);
    case Element::bf16:
      return static_cast<Real>(__bfloat162float(static_cast<const __nv_bfloat16*>(from)[at]));
    default:
      return static_cast<Real>(__half2float(static_cast<const __half*>(from)[at]));
  }
}

template <int Threads>
__global__ void __launch_bounds__(Threads) zero_kernel(uint32_t* words, int64_t n) {
  for (int64_t i = first_item<Threads>(); i < n; i += item_step<Threads>()) words[i] = 0;
}

// --- h and v ---------------------------------------------------------------------------------------------------------

// What h and v are packed to: float, double, and what the matrix units take, tf32 as its bits.
using Tf32 = uint32_t;

template <class To>
struct Packed {
  using Real = To;
  __device__ static To of(To v) { return v; }
};
template <>
struct Packed<Tf32> {
  using Real = float;
  // to nearest, ties away from zero, as cvt.rna.tf32.f32; infinities and NaN come out as such
  __device__ static Tf32 of(float v) {
    const unsigned bits = __float_as_uint(v);
    return (bits & 0x7F800000u) == 0x7F800000u ? bits : (bits + 0x1000u) & 0xFFFFE000u;
  }
};
template <>
struct Packed<__nv_bfloat16> {
  using Real = float;
  __device__ static __nv_bfloat16 of(float v) { return __float2bfloat16_rn(v); }
};

// to [rows, packed_bits] = from [rows, bits], zeros behind; *not_finite becomes 1 where something is NaN or infinite.
template <class To, int Threads>
__global__ void __launch_bounds__(Threads) pack_kernel(const void* from, Element element, int64_t rows, int64_t bits,
                                                       int64_t packed_bits, To* to, uint32_t* not_finite) {
  using Real = typename Packed<To>::Real;
  bool finite = true;
  for (int64_t i = first_item<Threads>(); i < rows * packed_bits; i += item_step<Threads>()) {
    const int64_t row = i / packed_bits, k = i - row * packed_bits;
    Real v = 0;
    if (k < bits) {
      v = load_element<Real>(from, element, row * bits + k);
      finite &= element == Element::f64 ? load_element<double>(from, element, row * bits + k) * 0 == 0 : v * 0 == 0;
    }
    to[i] = Packed<To>::of(v);
  }
  if (!finite) atomicOr(not_finite, 1u);
}

// --- labels ----------------------------------------------------------------------------------------------------------

__device__ __forceinline__ uint64_t hash(int64_t id) {
  const uint64_t h = static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15ull;
  return h ^ h >> 32;
}

// A class is known by the first row that came into the open hash table with its id; slots hold that row's number plus
// one, 0 where they are free. Which row that is may differ from call to call; what is made of it does not.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    insert_kernel(const int64_t* __restrict__ ids, int64_t n, uint32_t* table, uint64_t mask) {
  for (int64_t i = first_item<Threads>(); i < n; i += item_step<Threads>()) {
    const int64_t id = ids[i];
    const uint32_t own = static_cast<uint32_t>(i) + 1;
    for (uint64_t slot = hash(id) & mask;; slot = (slot + 1) & mask) {
      const uint32_t there = atomicCAS(&table[slot], 0u, own);
      if (there == 0 || ids[there - 1] == id) break;
    }
  }
}

// classes[n]: the number of each item's class, no_class where no row has it.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    classes_kernel(const int64_t* __restrict__ row_ids, const int64_t* __restrict__ ids, int64_t n,
                   const uint32_t* __restrict__ table, uint64_t mask, uint32_t* classes) {
  for (int64_t i = first_item<Threads>(); i < n; i += item_step<Threads>()) {
    const int64_t id = ids[i];
    uint32_t there = 0;
    for (uint64_t slot = hash(id) & mask; (there = table[slot]) != 0; slot = (slot + 1) & mask) {
      if (row_ids[there - 1] == id) break;
    }
    classes[i] = there == 0 ? no_class : there - 1;
  }
}

// words [ceil(classes / 32), n] of labels [n, classes]
template <int Threads>
__global__ void __launch_bounds__(Threads)
    words_kernel(const uint8_t* __restrict__ labels, int64_t n, int64_t classes, uint32_t* words) {
  const int64_t count = (classes + 31) / 32 * n;
  for (int64_t i = first_item<Threads>(); i < count; i += item_step<Threads>()) {
    const int64_t word = i / n, item = i - word * n;
    const int64_t left = classes - 32 * word;
    uint32_t bits = 0;
#pragma unroll 4
    for (int c = 0; c < (left < 32 ? left : 32); ++c) {
      bits |= uint32_t{labels[item * classes + 32 * word + c] != 0} << c;
    }
    words[i] = bits;
  }
}

// --- signs of v, for the error-aware term ----------------------------------------------------------------------------

template <class Real>
__device__ __forceinline__ int sign_of(Real x) {
  return (x > 0) - (x < 0);
}
__device__ __forceinline__ int sign_of(const void* from, Element element, int64_t at) {
  return element == Element::f64 ? sign_of(static_cast<const double*>(from)[at])
                                 : sign_of(load_element<float>(from, element, at));
}

// One block has 32 columns at a time. Per bit, sum_j sign v_jk and how many are not 0 go to totals [2, bits]; of class
// ids, sum of sign v_jk per class and bit to class_sums [B, bits], in the row that the class is known by; else, of each
// 32 columns, which signs are positive and which are 0, to planes [ceil(n / 32), 2, bits].
template <int Threads>
__global__ void __launch_bounds__(Threads)
    signs_kernel(const void* v, Element element, int64_t n, int64_t bits, const uint32_t* classes, int32_t* totals,
                 int32_t* class_sums, uint32_t* planes) {
  for (int64_t group = blockIdx.x; group < (n + 31) / 32; group += gridDim.x) {
    const int64_t left = n - 32 * group;
    const int columns = static_cast<int>(left < 32 ? left : 32);
    for (int64_t k = static_cast<int>(threadIdx.x); k < bits; k += Threads) {
      uint32_t positive = 0, zero = 0;
#pragma unroll 1
      for (int j = 0; j < columns; ++j) {
        const int sign = sign_of(v, element, (32 * group + j) * bits + k);
        positive |= uint32_t{sign > 0} << j;
        zero |= uint32_t{sign == 0} << j;
        if (classes == nullptr || sign == 0) continue;
        const uint32_t known = classes[32 * group + j];
        if (known != no_class) {
          atomicAdd(&class_sums[int64_t{known} * bits + k], sign);
        }
      }
      const int nonzero = columns - __popc(zero);
      atomicAdd(&totals[k], 2 * __popc(positive) - nonzero);
      atomicAdd(&totals[bits + k], nonzero);
      if (classes == nullptr) {
        planes[2 * group * bits + k] = positive;
        planes[(2 * group + 1) * bits + k] = zero;
      }
    }
  }
}

constexpr int agreement_rows = 32, agreement_words = 8;

// agreement [B, bits] += sum_j S_ij sign v_jk, where S is not of class ids: bits of S, of 32 rows and 32 columns to a
// word, against bits of signs. A block has 32 rows (x), some columns (y), and as many bits as threads (z).
template <int Threads>
__global__ void __launch_bounds__(Threads)
    agreement_kernel(PairSource source, int bits, const uint32_t* __restrict__ planes, int columns_of_block,
                     int32_t* agreement) {
  SHARED(uint32_t, words, [agreement_words][agreement_rows]);
  SHARED(int, counts, [agreement_rows]);
  const int me = static_cast<int>(threadIdx.x), lane = me % 32, warp = me / 32;
  const int row = static_cast<int>(blockIdx.x) * agreement_rows, k = static_cast<int>(blockIdx.z) * Threads + me;
  const int first = static_cast<int>(blockIdx.y) * columns_of_block;
  const int last = smaller(source.column_count, first + columns_of_block);
  int sums[agreement_rows] = {}, similar = 0;
  for (int column = first; column < last; column += 32 * agreement_words) {
    __syncthreads();
    for (int w = warp; w < agreement_words; w += Threads / 32) {
      const auto column_of = [&](int) { return column + 32 * w + lane; };
      uint32_t mask = 0;
#pragma unroll 1
      for (int some = 0; some < agreement_rows && column + 32 * w < last; some += 8) {
        const auto row_of = [&](int i) { return row + some + i; };
        mask |= (similar_pairs<8, 1>(source, row_of, column_of) & valid_pairs<8, 1>(source, row_of, column_of)) << some;
      }
      uint32_t own = 0;
#pragma unroll
      for (int i = 0; i < agreement_rows; ++i) {
        const uint32_t word = __ballot_sync(0xFFFFFFFFu, mask >> i & 1);
        if (lane == i) own = word;
      }
      words[w][lane] = own;
    }
    __syncthreads();
    if (me < agreement_rows) {
      for (int w = 0; w < agreement_words; ++w) similar += __popc(words[w][me]);
    }
    if (k >= bits) continue;
    for (int w = 0; w < agreement_words && column + 32 * w < last; ++w) {
      const uint32_t* const plane = planes + int64_t{2} * (column / 32 + w) * bits + k;
      const uint32_t positive = plane[0], zero = plane[bits];
#pragma unroll
      for (int i = 0; i < agreement_rows; ++i) sums[i] += 2 * __popc(words[w][i] & positive);
      if (zero == 0) continue;
#pragma unroll
      for (int i = 0; i < agreement_rows; ++i) sums[i] += __popc(words[w][i] & zero);
    }
  }
  if (me < agreement_rows) counts[me] = similar;
  __syncthreads();
  if (k >= bits) return;
#pragma unroll
  for (int i = 0; i < agreement_rows; ++i) {
    if (row + i < source.row_count) {
      atomicAdd(&agreement[int64_t{row + i} * bits + k], sums[i] - counts[i]);
    }
  }
}

// --- balanced weights ------------------------------------------------------------------------------------------------

constexpr int count_rows = 8, count_columns = 4;

// *similar += how many pairs are; a block has 8 rows of pairs for every 16 threads, and some columns.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    count_kernel(PairSource source, int columns_of_block, unsigned long long* similar) {
  constexpr int across = 16, down = Threads / across;
  const int tx = static_cast<int>(threadIdx.x) % across, ty = static_cast<int>(threadIdx.x) / across;
  const int row = static_cast<int>(blockIdx.x) * (down * count_rows) + ty;
  const int first = static_cast<int>(blockIdx.y) * columns_of_block;
  const int last = smaller(source.column_count, first + columns_of_block);
  const auto row_of = [&](int i) { return row + down * i; };
  unsigned long long count = 0;
  for (int column = first; column < last; column += across * count_columns) {
    const auto column_of = [&](int c) { return column + tx + across * c; };
    const uint32_t mask = similar_pairs<count_rows, count_columns>(source, row_of, column_of);
    count += __popc(mask & valid_pairs<count_rows, count_columns>(source, row_of, column_of));
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) count += __shfl_down_sync(0xFFFFFFFFu, count, offset);
  if (threadIdx.x % 32 == 0 && count != 0) {
    atomicAdd(similar, count);
  }
}
