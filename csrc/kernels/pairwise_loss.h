// Pairwise likelihood (Eq. 1) and quantization (Eq. 4 and others): parameters, and the launchers of both backends.
//
// Rows i are those of h [B, K], columns j those of v [N, K]: a bank, or h itself. With theta_ij = scale <h_i, v_j>,
// t_ij = 1 - 2 S_ij and z = t theta, a pair has
//   value       w (max(z, 0) + log(1 + e)),         e = exp(-|z|)
//   derivative  w t sigmoid(z) =: P_ij              of the value with respect to theta
// and row i the gradient scale sum_j P_ij v_j. Where v = h both roles carry gradient, and because theta is symmetric
// the role of the column adds sum_j P_ji h_j: with G_ij = P_ij + P_ji one pass over rows has both, and nothing is
// scattered. S of labels is symmetric, and G = 2 P.
//
// log(1 + e) over some columns of a row is the logarithm of a product: q := q + e + q e, which is the product less
// one, keeps what is small, and log1p(q) is taken once in a while.
//
// Error-aware quantization, b = sign(h), c = sign(v): bit (i, k) is selected by
//   1/2 (|b_ik| sum_j |c_jk| + b_ik sum_j (2 S_ij - 1) c_jk)
// columns; the last sum is 2 sum_j S_ij c_jk - sum_j c_jk, of integers, and of class ids a look-up in sums per class.
#pragma once

#include <cstdint>

#include "common/element.h"
#include "common/parallel.h"

namespace rdh {

enum class Quantization { none, error_aware, l2, log_cosh };

// Where S_ij comes from.
enum class Similarity { class_ids, multi_hot, matrix };

struct PairwiseParams {
  int64_t rows, columns, bits;  // B, N, K
  double scale, eta;
  Quantization quantization;
  bool balanced;       // HashNet's weights instead of 1
  bool mean;           // over pairs (and bits), else the sum
  bool with_itself;    // v is h, and both roles carry gradient
  bool with_diagonal;  // false only with_itself: the pairs (i, i) are left out
  bool need_grad;

  int64_t pairs() const { return rows * columns - (with_diagonal ? 0 : rows); }
};

// What the sums over pairs, and over bits, are multiplied with.
struct PairwiseFactors {
  double pair, bit;
};

inline PairwiseFactors pairwise_factors(const PairwiseParams& p) {
  if (!p.mean) return {1.0, 1.0};
  const double pairs = static_cast<double>(p.pairs());
  const double bits =
      (p.quantization == Quantization::error_aware ? pairs : static_cast<double>(p.rows)) * static_cast<double>(p.bits);
  return {pairs > 0 ? 1.0 / pairs : 1.0, bits > 0 ? 1.0 / bits : 1.0};
}

// Contiguous h [B, K] and v [N, K] (h again where with_itself), and one source of similarity: class ids [B] and [N],
// any values, bytes [B, C] and [N, C] of which all but 0 is 1, or a matrix [B, N] with any strides, in elements.
struct PairwiseInputs {
  const void *h, *v;
  Element h_element, v_element;
  Similarity similarity;
  const int64_t *row_ids, *column_ids;
  const uint8_t *row_labels, *column_labels;
  int64_t classes;
  const void* matrix;
  int64_t matrix_row, matrix_column;
  int matrix_bytes;      // of an element: 1, 2, 4 or 8
  bool matrix_floating;  // -0.0 is 0
};

// loss [1], parts [2], grad [B, K] or null; double where h is, else float.
struct PairwiseOutputs {
  void *loss, *parts, *grad;
};

// Bytes read and written at least: h and v, and the gradient of h. With itself there are no columns to read.
constexpr int64_t pairwise_loss_bytes(int64_t rows, int64_t columns, int64_t bits, int64_t element_bytes) {
  return (2 * rows + columns) * bits * element_bytes;
}
// Two products, a multiply-add counted as two.
constexpr int64_t pairwise_loss_flops(int64_t rows, int64_t columns, int64_t bits) { return 4 * rows * columns * bits; }

namespace cpu {

// Returns false where memory for the workspace is missing. N is below 2^31.
bool pairwise_loss(const PairwiseParams& params, const PairwiseInputs& inputs, const PairwiseOutputs& outputs,
                   const Parallel& parallel);

// to = from * factor, rounded once, n elements; from is float, or double where `element` is.
void pairwise_loss_backward(Element element, const void* from, double factor, void* to, int64_t n);

}  // namespace cpu

namespace cuda {

// How the two products of a pair are computed: float (double for double h) as they are, or on the matrix units, from
// sm_80 on, with inputs rounded to tf32 or to bfloat16 and sums in float.
enum class Products { exact, tf32, bf16 };

// What a call gets: at most what `allowed` says, and what h, K and the device (100 major + 10 minor) can do.
Products pairwise_loss_products(const PairwiseParams& params, const PairwiseInputs& inputs, Products allowed,
                                int capability);

// Bytes of the workspace, aligned to 16. B and N are below 2^31.
int64_t pairwise_loss_workspace(const PairwiseParams& params, const PairwiseInputs& inputs, Products products);

// Asynchronous on `stream` (a cudaStream_t), and no read of the device on the way. Returns a cudaError_t as int.
int launch_pairwise_loss(const PairwiseParams& params, const PairwiseInputs& inputs, const PairwiseOutputs& outputs,
                         Products products, void* workspace, void* stream);

// to = from * factor, rounded once, n elements; from and the factor (one, on the device) are float, or double where
// `element` is.
int launch_pairwise_loss_backward(Element element, const void* from, const void* factor, void* to, int64_t n,
                                  void* stream);

}  // namespace cuda
}  // namespace rdh
