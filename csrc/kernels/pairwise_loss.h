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

}  // namespace rdh
