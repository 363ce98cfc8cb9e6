// Computes:  pairwise likelihood (Eq. 1) with quantization (Eq. 4 and others): loss, parts and dL/dh in one pass over
//            the pairs; the formulas are in kernels/pairwise_loss.h.
// Algorithm: prepare (pairwise_loss_prepare.cuh): h and v are packed to the type of the products, 16 bytes at a time to
//            read; class ids numbered by an open hash table, multi-hot rows packed to words; signs counted.
//            pairs (pairwise_loss_exact.cuh, pairwise_loss_mma.cuh): a block owns rows of h and goes over tiles of
//            columns, as attention does: theta, G, and sum_j G_ij v_j kept. Where v is h, G_ij = P_ij + P_ji, so no row
//            is written by two blocks. finish (pairwise_loss_finish.cuh): chunks added up, bits, sums.
//            Nothing waits for the host: a count that weights need is read by the kernels behind it.
// Memory:    workspace: packed h and v, one gradient [B, K] per chunk of columns, at most 2 (B + N) / B of them, and
//            integers [B, K] with "error_aware": below 4 (B + N) K floats in all; no B x N anywhere.
// Tiling:    exact: 64 x 64 pairs, 128 threads, 8 x 4 pairs each (double: 32 x 32, 4 x 2), bits in slabs of 64; the
//            gradient stays in registers up to K = 128, else it goes through memory. Matrix units: 128 x 32 pairs (64
//            x 32 for K > 64), 4 warps, 16 columns of a warp's rows at a time, v double-buffered by cp.async; K from
//            32 to 128, else exact. Columns are cut into chunks, a pure function of the shape, so that small batches
//            fill a device.
// Floors and predictions, not measured: B = N = 59,000, K = 64, class ids, H200: 3.5e9 pairs, 4.5e11 multiply-adds,
//            7e9 special functions (1.7 ms at 16 per clock and multiprocessor). Instructions per 16 pairs of each lane
//            as sm_90 has them: 225 for the pairs, and 67 (bfloat16) or 137 (tf32) around the products, so 2.4 and 2.9
//            ms to issue; products at the rate of mma.sync, 0.6 of the peak: 1.5 and 2.9 ms; shared memory 1.0 and 1.7
//            ms. Two warps to a scheduler overlap some of it: 3.5 ms for bfloat16, 4.5 ms for tf32. Exact: 13.3 ms for
//            the multiply-adds alone; 20 ms with 3 words from shared memory for 8 of them, and the pairs on the same
//            units.
// Numerics:  exact: IEEE fused multiply-adds; exp by ex2.approx with its argument's rounding made good, 4 ulp;
//            1 / (1 + e) by rcp.approx, 1 ulp. log(1 + e) of a thread's 32 pairs of a tile is one log1p of a product.
//            Values add up in double over tiles; the gradient in float over the columns of a tile, then over the tiles
//            of a chunk, then in double over chunks. Matrix units: h, v and G rounded to nearest, to 11 (tf32) or 8
//            bits; sums in float as the hardware makes them; exp without the correction. Integers are exact. Atomics
//            are of integers only: results are the same in every run, and on every device with the same products.
// Limits:    B and N below 2^31 - 2^24; any K and C.
// References: the paper's Eq. 1, 4 and 5; HashNet (ICCV 2017) for balanced weights; FlashAttention-2 (2023) for keeping
//            what is between two products in registers.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>

#include "common/cuda_kernel.h"
#include "common/host_device.h"
#include "common/ptx.cuh"
#include "kernels/cuda/strides.cuh"
#include "kernels/pairwise_loss.h"

namespace rdh::cuda {
namespace {

RDH_HD int smaller(int a, int b) { return a < b ? a : b; }

// clang-format off
#include "kernels/cuda/pairwise_loss_pairs.cuh"
#include "kernels/cuda/pairwise_loss_prepare.cuh"
#include "kernels/cuda/pairwise_loss_exact.cuh"
#include "kernels/cuda/pairwise_loss_mma.cuh"
#include "kernels/cuda/pairwise_loss_finish.cuh"
// clang-format on

constexpr int threads = 256, pair_threads = 128;

// A few items to a thread, up to a few blocks for each multiprocessor: the kernels stride.
unsigned blocks_for(int64_t items, int per_block = 4 * threads) {
  return static_cast<unsigned>(greatest(1, least(divided_up(items, per_block), 1024)));
}

// How columns are split for blocks to share: enough chunks that the blocks fill a large device several times, each a
// number of whole tiles, and no more than what memory is there for.
struct Chunks {
  int64_t columns, count;
};

Chunks chunks_of(int64_t columns, int64_t tile, int64_t row_blocks, int64_t most) {
  constexpr int64_t wanted_blocks = 4096;
  const int64_t tiles = divided_up(columns, tile);
  if (tiles == 0) return {tile, 0};
  const int64_t wanted =
      greatest(1, least(least(tiles, greatest(1, most)), divided_up(wanted_blocks, greatest(row_blocks, 1))));
  const int64_t tiles_of_chunk = divided_up(tiles, wanted);
  return {tiles_of_chunk * tile, divided_up(tiles, tiles_of_chunk)};
}

// Everything that is derived from a call's shape, and where it has its place in the workspace.
class Plan {
 public:
  Plan(const PairwiseParams& p, const PairwiseInputs& in, Products products, void* workspace)
      : params(p), inputs(in), memory_(static_cast<char*>(workspace)) {
    is_double = in.h_element == Element::f64;
    has_ids = in.similarity == Similarity::class_ids;
    has_words = in.similarity == Similarity::multi_hot;
    error_aware = p.quantization == Quantization::error_aware;
    asymmetric = p.with_itself && in.similarity == Similarity::matrix;
    shape_of(products);
    const int64_t most = 2 * (p.rows + p.columns) * p.bits / greatest(1, p.rows * packed_bits);
    pair_chunks = chunks_of(p.columns, tile_columns, row_blocks, most);
    bit_blocks = p.quantization == Quantization::none && !p.need_grad ? 0 : blocks_for(p.rows * p.bits);
    table_slots = 64;
    while (has_ids && table_slots < 2 * p.rows) table_slots *= 2;
    place();
  }

  const PairwiseParams& params;
  const PairwiseInputs& inputs;
  bool is_double, has_ids, has_words, error_aware, asymmetric;
  int64_t tile_rows, tile_columns, row_blocks, packed_bits, packed_bytes;
  Chunks pair_chunks;
  int64_t bit_blocks, table_slots, bytes = 0;

  // zeros at first, and so in one piece
  uint32_t* not_finite;
  unsigned long long* similar_pairs;
  uint32_t* table;
  int32_t *totals, *agreement;
  int64_t zero_bytes;
  // the others are written before they are read
  void *h, *v, *gradient;
  uint32_t *rows, *columns, *planes;
  double *pair_sums, *bit_sums;

  PairSource source() const {
    return {inputs.similarity,
            params.with_diagonal,
            asymmetric,
            inputs.matrix_floating,
            inputs.matrix_bytes,
            static_cast<int>(params.rows),
            static_cast<int>(params.columns),
            divided_up(inputs.classes, 32),
            rows,
            columns,
            inputs.matrix,
            inputs.matrix_row,
            inputs.matrix_column};
  }

 private:
  void shape_of(Products products) {
    if (products == Products::exact) {
      const int64_t vector = is_double ? 2 : 4;
      packed_bits = greatest(vector, divided_up(params.bits, vector) * vector);
      packed_bytes = is_double ? 8 : 4;
      tile_rows = tile_columns = is_double ? 32 : 64;
    } else {
      packed_bits = params.bits <= 64 ? 64 : 128;
      packed_bytes = products == Products::tf32 ? 4 : 2;
      tile_rows = params.bits <= 64 ? 128 : 64;
      tile_columns = 32;
    }
    row_blocks = divided_up(params.rows, tile_rows);
  }

  template <class T>
  void take(T*& pointer, int64_t count) {
    pointer = reinterpret_cast<T*>(memory_ + bytes);
    bytes += divided_up(count * static_cast<int64_t>(sizeof(T)), 256) * 256;
  }

  void place() {
    const int64_t b = params.rows, n = params.columns, k = params.bits;
    take(not_finite, 1);
    take(similar_pairs, 1);
    take(table, has_ids ? table_slots : 0);
    take(totals, error_aware ? 2 * k : 0);
    take(agreement, error_aware ? b * k : 0);
    zero_bytes = bytes;
    const int64_t per_item = has_ids ? 1 : has_words ? divided_up(inputs.classes, 32) : 0;
    take(rows, b * per_item);
    if (params.with_itself) {
      columns = rows;
    } else {
      take(columns, n * per_item);
    }
    take(planes, error_aware && !has_ids ? divided_up(n, 32) * 2 * k : 0);
    take(pair_sums, 2 * row_blocks * pair_chunks.count);
    take(bit_sums, bit_blocks);
    char *packed_h, *packed_v, *chunks;
    take(packed_h, b * packed_bits * packed_bytes);
    packed_v = packed_h;
    if (!params.with_itself) take(packed_v, n * packed_bits * packed_bytes);
    take(chunks, params.need_grad ? pair_chunks.count * b * packed_bits * (is_double ? 8 : 4) : 0);
    h = packed_h;
    v = packed_v;
    gradient = chunks;
  }

  char* memory_;
};

template <class To>
void pack(const Plan& plan, cudaStream_t stream) {
  const PairwiseParams& p = plan.params;
  const PairwiseInputs& in = plan.inputs;
  LAUNCH((pack_kernel<To, threads>), blocks_for(p.rows * plan.packed_bits), threads, 0, stream, in.h, in.h_element,
         p.rows, p.bits, plan.packed_bits, static_cast<To*>(plan.h), plan.not_finite);
  if (p.with_itself) return;
  LAUNCH((pack_kernel<To, threads>), blocks_for(p.columns * plan.packed_bits), threads, 0, stream, in.v, in.v_element,
         p.columns, p.bits, plan.packed_bits, static_cast<To*>(plan.v), plan.not_finite);
}

void number_classes(const Plan& plan, cudaStream_t stream) {
  const PairwiseParams& p = plan.params;
  const PairwiseInputs& in = plan.inputs;
  const uint64_t mask = static_cast<uint64_t>(plan.table_slots) - 1;
  LAUNCH((insert_kernel<threads>), blocks_for(p.rows), threads, 0, stream, in.row_ids, p.rows, plan.table, mask);
  LAUNCH((classes_kernel<threads>), blocks_for(p.rows), threads, 0, stream, in.row_ids, in.row_ids, p.rows, plan.table,
         mask, plan.rows);
  if (p.with_itself) return;
  LAUNCH((classes_kernel<threads>), blocks_for(p.columns), threads, 0, stream, in.row_ids, in.column_ids, p.columns,
         plan.table, mask, plan.columns);
}

void pack_labels(const Plan& plan, cudaStream_t stream) {
  const PairwiseParams& p = plan.params;
  const PairwiseInputs& in = plan.inputs;
  const int64_t words = divided_up(in.classes, 32);
  LAUNCH((words_kernel<threads>), blocks_for(p.rows * words), threads, 0, stream, in.row_labels, p.rows, in.classes,
         plan.rows);
  if (p.with_itself) return;
  LAUNCH((words_kernel<threads>), blocks_for(p.columns * words), threads, 0, stream, in.column_labels, p.columns,
         in.classes, plan.columns);
}

void count_signs(const Plan& plan, cudaStream_t stream) {
  const PairwiseParams& p = plan.params;
  const unsigned groups = blocks_for(p.columns, 32);
  LAUNCH((signs_kernel<pair_threads>), groups, pair_threads, 0, stream, plan.inputs.v, plan.inputs.v_element, p.columns,
         p.bits, plan.has_ids ? plan.columns : nullptr, plan.totals, plan.agreement, plan.planes);
  if (plan.has_ids) return;
  const int64_t row_blocks = divided_up(p.rows, agreement_rows);
  constexpr int64_t columns = 2 * 32 * agreement_words;  // two steps of the kernel at least: fewer atomics
  const Chunks chunks = chunks_of(p.columns, columns, row_blocks, p.columns);
  const dim3 grid(static_cast<unsigned>(row_blocks), static_cast<unsigned>(chunks.count),
                  static_cast<unsigned>(divided_up(p.bits, pair_threads)));
  LAUNCH((agreement_kernel<pair_threads>), grid, pair_threads, 0, stream, plan.source(), static_cast<int>(p.bits),
         plan.planes, static_cast<int>(chunks.columns), plan.agreement);
}

void count_similar(const Plan& plan, cudaStream_t stream) {
  const PairwiseParams& p = plan.params;
  constexpr int64_t rows = pair_threads / 16 * count_rows, columns = 16 * count_columns;
  const int64_t row_blocks = divided_up(p.rows, rows);
  const Chunks chunks = chunks_of(p.columns, columns, row_blocks, p.columns);
  const dim3 grid(static_cast<unsigned>(row_blocks), static_cast<unsigned>(chunks.count));
  LAUNCH((count_kernel<pair_threads>), grid, pair_threads, 0, stream, plan.source(), static_cast<int>(chunks.columns),
         plan.similar_pairs);
}

template <class To, class Real>
PairArguments<To, Real> pair_arguments(const Plan& plan) {
  const PairwiseParams& p = plan.params;
  return {plan.source(),
          static_cast<const To*>(plan.h),
          static_cast<const To*>(plan.v),
          static_cast<int>(plan.packed_bits),
          static_cast<int>(plan.pair_chunks.columns),
          p.pairs(),
          plan.similar_pairs,
          static_cast<Real>(p.scale),
          p.balanced,
          p.need_grad,
          static_cast<Real*>(plan.gradient),
          plan.pair_sums};
}

dim3 pair_grid(const Plan& plan) {
  return {static_cast<unsigned>(plan.row_blocks), static_cast<unsigned>(plan.pair_chunks.count), 1};
}

// Shared memory beyond 48 KB has to be asked for.
template <class Kernel>
int allow_shared(Kernel kernel, int bytes) {
  if (bytes <= 48 << 10) return cudaSuccess;
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                              bytes);
}

template <class Real, int Slabs>
int exact_as(const Plan& plan, cudaStream_t stream) {
  constexpr int bytes = ExactShapeOf<Real, pair_threads>::bytes;
  constexpr int blocks = Slabs == 0 ? 4 : Slabs == 1 ? 3 : 2;
  if (const int error = allow_shared(exact_kernel<Real, Slabs, blocks, pair_threads>, bytes)) return error;
  LAUNCH((exact_kernel<Real, Slabs, blocks, pair_threads>), pair_grid(plan), pair_threads, bytes, stream,
         pair_arguments<Real, Real>(plan));
  return cudaSuccess;
}

template <class Real>
int exact(const Plan& plan, cudaStream_t stream) {
  if (plan.packed_bits <= 64) return exact_as<Real, 1>(plan, stream);
  if (plan.packed_bits <= 128) return exact_as<Real, 2>(plan, stream);
  return exact_as<Real, 0>(plan, stream);
}

template <class To, int Bits>
void mma_as(const Plan& plan, cudaStream_t stream) {
  LAUNCH((mma_kernel<To, Bits, 2, pair_threads>), pair_grid(plan), pair_threads, 0, stream,
         pair_arguments<To, float>(plan));
}

template <class To>
int mma(const Plan& plan, cudaStream_t stream) {
  if (plan.packed_bits == 64) {
    mma_as<To, 64>(plan, stream);
  } else {
    mma_as<To, 128>(plan, stream);
  }
  return cudaSuccess;
}

void pack_as(const Plan& plan, Products products, cudaStream_t stream) {
  if (products == Products::tf32) {
    pack<Tf32>(plan, stream);
  } else if (products == Products::bf16) {
    pack<__nv_bfloat16>(plan, stream);
  } else if (plan.is_double) {
    pack<double>(plan, stream);
  } else {
    pack<float>(plan, stream);
  }
}

int pairs_as(const Plan& plan, Products products, cudaStream_t stream) {
  if (products == Products::tf32) return mma<Tf32>(plan, stream);
  if (products == Products::bf16) return mma<__nv_bfloat16>(plan, stream);
  return plan.is_double ? exact<double>(plan, stream) : exact<float>(plan, stream);
}

// dL/dh of the sums over pairs and bits is what the kernels add up, times these.
template <class Real>
void finish(const Plan& plan, const PairwiseOutputs& out, cudaStream_t stream) {
  const PairwiseParams& p = plan.params;
  const PairwiseFactors factors = pairwise_factors(p);
  // both roles of a pair have the same G where S is symmetric, which is then there once
  const double roles = p.with_itself && !plan.asymmetric ? 2.0 : 1.0;
  if (plan.bit_blocks != 0) {
    const BitArguments bits{plan.inputs.h,
                            plan.inputs.h_element,
                            p.rows,
                            p.bits,
                            plan.packed_bits,
                            p.columns,
                            plan.pair_chunks.count,
                            p.quantization,
                            p.with_diagonal,
                            factors.pair * p.scale * roles,
                            factors.bit * p.eta,
                            plan.has_ids ? plan.rows : nullptr,
                            plan.totals,
                            plan.agreement,
                            plan.not_finite};
    LAUNCH((bits_kernel<Real, threads>), static_cast<unsigned>(plan.bit_blocks), threads, 0, stream, bits,
           static_cast<const Real*>(plan.gradient), static_cast<Real*>(p.need_grad ? out.grad : nullptr),
           plan.bit_sums);
  }
  const LossArguments loss{plan.pair_sums,
                           plan.bit_sums,
                           plan.row_blocks * plan.pair_chunks.count,
                           plan.bit_blocks,
                           p.balanced,
                           p.pairs(),
                           plan.similar_pairs,
                           factors.pair,
                           factors.bit,
                           p.eta,
                           plan.not_finite};
  LAUNCH((loss_kernel<Real, threads>), 1, threads, 0, stream, loss, static_cast<Real*>(out.loss),
         static_cast<Real*>(out.parts));
}

}  // namespace

// The matrix units take 64 or 128 bits: far fewer would be mostly zeros, and more would not leave room for registers.
Products pairwise_loss_products(const PairwiseParams& params, const PairwiseInputs& inputs, Products allowed,
                                int capability) {
  const bool fits = params.bits >= 32 && params.bits <= 128;
  return fits && capability >= 800 && inputs.h_element != Element::f64 ? allowed : Products::exact;
}

int64_t pairwise_loss_workspace(const PairwiseParams& params, const PairwiseInputs& inputs, Products products) {
  return Plan(params, inputs, products, nullptr).bytes;
}

int launch_pairwise_loss(const PairwiseParams& params, const PairwiseInputs& inputs, const PairwiseOutputs& outputs,
                         Products products, void* workspace, void* stream_) {
  const auto stream = static_cast<cudaStream_t>(stream_);
  constexpr int64_t most = (int64_t{1} << 31) - (1 << 24);  // tiles and chunks may end behind the last item
  if (params.rows > most || params.columns > most) return cudaErrorInvalidValue;
  const Plan plan(params, inputs, products, workspace);
  LAUNCH((zero_kernel<threads>), blocks_for(plan.zero_bytes / 4), threads, 0, stream, static_cast<uint32_t*>(workspace),
         plan.zero_bytes / 4);
  pack_as(plan, products, stream);
  if (plan.has_ids) number_classes(plan, stream);
  if (plan.has_words) pack_labels(plan, stream);
  if (params.rows > 0 && params.columns > 0) {
    if (plan.error_aware && params.bits > 0) count_signs(plan, stream);
    if (params.balanced) count_similar(plan, stream);
    if (const int error = pairs_as(plan, products, stream)) return error;
  }
  if (plan.is_double) {
    finish<double>(plan, outputs, stream);
  } else {
    finish<float>(plan, outputs, stream);
  }
  return cudaGetLastError();
}

int launch_pairwise_loss_backward(Element element, const void* from, const void* factor, void* to, int64_t n,
                                  void* stream_) {
  const auto stream = static_cast<cudaStream_t>(stream_);
  if (n == 0) return cudaSuccess;
  if (element == Element::f64) {
    LAUNCH((scaled_gradient_kernel<double, threads>), blocks_for(n), threads, 0, stream,
           static_cast<const double*>(from), static_cast<const double*>(factor), to, element, n);
  } else {
    LAUNCH((scaled_gradient_kernel<float, threads>), blocks_for(n), threads, 0, stream, static_cast<const float*>(from),
           static_cast<const float*>(factor), to, element, n);
  }
  return cudaGetLastError();
}

}  // namespace rdh::cuda
