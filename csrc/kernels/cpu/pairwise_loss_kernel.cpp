// Computes:  the pairwise likelihood (Eq. 1) and its quantization (Eq. 4, or others) with dL/dh, of a batch against a
//            bank or against itself, from class ids, multi-hot labels or a matrix. The formula:
//            kernels/pairwise_loss.h.
// Algorithm: tiles of 256 rows by a chunk of columns are the tasks of threads. Within a task, 48 columns and 64 rows
//            at a time: theta by a product in registers (pairwise_loss_product.inl), in its place the derivative
//            (pairwise_loss_formula.inl), then the gradient by a second product. S of 64 rows and a column is one
//            word: an OR of the words of the column's labels, four labels at a time. Error-aware, class ids: sums of
//            signs per class, made as the columns come by; else sums of the signs of all subsets of four columns, in
//            bytes, of which a row takes one for each four. AVX-512: which bits are negative an odd number of times in
//            a subset of three columns, and which more than once, are words, of which a row takes one for each three;
//            full adders of words count them (pairwise_loss_words.inl), in blocks without zeros.
// Memory:    reads v from its place (a copy of 48 columns where it is not of the type of the products), h once, into a
//            packed copy. Workspace: that copy and the gradient per chunk of columns, at most (3 B + N) K floats
//            together; sums of signs per class of the batch; a task about 0.1 MB at K = 64.
// Tiling:    cuts depend on the shape and on nothing else, so results are the same bits for any number of threads.
// Numerics:  products and pairs in float (double where h is double; 16-bit types are widened), values in float over 48
//            columns of a row, then double; gradients in float over 1,200 columns, then double. Integers are exact. A
//            value of h or v that is not finite makes everything NaN.
// Limits:    N below 2^31. Fewer than 16 rows leave lanes empty. The symmetry of theta in a batch against itself is not
//            used.
// References: the paper's Eq. 1, 4, 5; HashNet (Cao et al., ICCV 2017) for the weights.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "common/cpu_level.h"
#include "common/host_device.h"
#include "common/intrinsics.h"
#include "common/target_region.h"
#include "kernels/cpu/pairwise_loss_problem.h"
#include "kernels/pairwise_loss.h"

namespace rdh::cpu {
namespace {

// One row per level and arithmetic. False: no memory.
struct Kernels {
  bool (*count_task)(const Problem& problem, int64_t task);
  bool (*pack_rows)(const Problem& problem, int64_t row_block);
  bool (*run_task)(const Problem& problem, int64_t task);
  bool (*merge_signs)(const Problem& problem);
  bool (*finish_rows)(const Problem& problem, const PairwiseFactors& factors, double poison, void* gradient,
                      int64_t row_block);
  void (*scale_row)(const void* from, double factor, void* to, int64_t n);
};

// For levels without pairwise_loss_words.inl.
struct NoWords {
  static constexpr bool exist = false;
};

namespace scalar {
#include "common/simd_portable.inl"
#include "common/simd_twice.inl"
#include "kernels/cpu/pairwise_loss_formula.inl"
#include "kernels/cpu/pairwise_loss_product.inl"
using Words = NoWords;
#include "kernels/cpu/pairwise_loss_simd.inl"
}  // namespace scalar

#if RDH_X86
RDH_TARGET_AVX2_BEGIN
namespace avx2 {
#include "common/simd_avx2.inl"
#include "common/simd_twice.inl"
#include "kernels/cpu/pairwise_loss_formula.inl"
#include "kernels/cpu/pairwise_loss_product.inl"
using Words = NoWords;
#include "kernels/cpu/pairwise_loss_simd.inl"
}  // namespace avx2
RDH_TARGET_END

RDH_TARGET_AVX512_BEGIN
namespace avx512 {
#include "common/simd_avx512.inl"
#include "common/simd_twice.inl"
#include "kernels/cpu/pairwise_loss_formula.inl"
#include "kernels/cpu/pairwise_loss_product.inl"
#include "kernels/cpu/pairwise_loss_words.inl"
//
#include "kernels/cpu/pairwise_loss_simd.inl"
}  // namespace avx512
RDH_TARGET_END
#endif

Kernels select(Element element) {
  const bool wide = element == Element::f64;
#if RDH_X86
  switch (active_cpu_level()) {
    case CpuLevel::avx512vpopcntdq:
    case CpuLevel::avx512:
      return avx512::kernels(wide);
    case CpuLevel::avx2:
      return avx2::kernels(wide);
    case CpuLevel::scalar:
      break;
  }
#endif
  return scalar::kernels(wide);
}

// What class ids need beside the tasks: dense ids, and their sums of signs.
struct Classes {
  Workspace memory;
  int32_t *of_rows = nullptr, *of_columns = nullptr;

  bool number(Problem& problem, const Parallel& parallel) {
    const PairwiseParams& p = problem.params;
    if (problem.inputs.similarity != Similarity::class_ids) return true;
    DenseIds ids;
    memory.add(of_rows, p.rows);
    memory.add(of_columns, p.with_itself ? 0 : p.columns);
    if (!memory.allocate() || !ids.build(problem.inputs.row_ids, p.rows, of_rows)) return false;
    problem.row_class = problem.column_class = of_rows;
    problem.dense_classes = ids.count();
    if (p.with_itself) return true;
    problem.column_class = of_columns;
    constexpr int64_t at_once = 1 << 15;
    return run_all(parallel, (p.columns + at_once - 1) / at_once, [&](int64_t part) {
      const int64_t end = std::min(p.columns, (part + 1) * at_once);
      for (int64_t j = part * at_once; j < end; ++j) of_columns[j] = ids.find(problem.inputs.column_ids[j]);
      return true;
    });
  }
};

// HashNet's weights need the number of similar pairs first.
bool weigh(Problem& problem, const Kernels& kernels, const Parallel& parallel) {
  const PairwiseParams& p = problem.params;
  if (!p.balanced) return true;
  int64_t similar = 0;
  if (problem.inputs.similarity == Similarity::class_ids) {
    Workspace memory;
    int64_t* rows = nullptr;
    memory.add(rows, problem.dense_classes, true);
    if (!memory.allocate()) return false;
    for (int64_t i = 0; i < p.rows; ++i) ++rows[problem.row_class[i]];
    for (int64_t j = 0; j < p.columns; ++j) {
      if (problem.column_class[j] >= 0) similar += rows[problem.column_class[j]];
    }
    if (!p.with_diagonal) similar -= p.rows;
  } else {
    if (!run_all(parallel, problem.tasks(), [&](int64_t task) { return kernels.count_task(problem, task); }))
      return false;
    for (int64_t task = 0; task < problem.tasks(); ++task) similar += problem.sums[task].similar_pairs;
  }
  const auto pairs = static_cast<double>(p.pairs());
  const auto count = static_cast<double>(similar);
  problem.similar_weight = pairs / std::max(1.0, count);  // of a kind without pairs: never used
  problem.dissimilar_weight = pairs / std::max(1.0, pairs - count);
  return true;
}

template <class Real>
void write(const PairwiseOutputs& outputs, double loss, double similarity, double quantization) {
  *static_cast<Real*>(outputs.loss) = static_cast<Real>(loss);
  static_cast<Real*>(outputs.parts)[0] = static_cast<Real>(similarity);
  static_cast<Real*>(outputs.parts)[1] = static_cast<Real>(quantization);
}

// The product is rounded to float first, as it is on every other backend.
template <class T>
void scale_and_narrow(const void* from, double factor, void* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    static_cast<T*>(to)[i] = narrow<T>(static_cast<const float*>(from)[i] * static_cast<float>(factor));
  }
}

}  // namespace

bool pairwise_loss(const PairwiseParams& params, const PairwiseInputs& inputs, const PairwiseOutputs& outputs,
                   const Parallel& parallel) {
  const Kernels kernels = select(inputs.h_element);
  Problem problem{params, inputs, 0, 0, 0};
  cut(problem);
  Classes classes;
  Workspace memory;
  memory.add(problem.sums, problem.tasks(), true);
  const int64_t results = problem.chunks * params.rows * problem.padded_bits(), bits = problem.sign_bits();
  if (!classes.number(problem, parallel)) return false;
  const int64_t real = inputs.h_element == Element::f64 ? sizeof(double) : sizeof(float);
  memory.add(problem.packed, problem.row_blocks() * panel * params.bits * real);
  memory.add(problem.poison, problem.row_blocks(), true);
  char* gradient = nullptr;
  const int64_t gradients = problem.chunks * params.rows * problem.gradient_stride();
  memory.add(gradient, params.need_grad ? gradients * (problem.narrow ? real : sizeof(double)) : 0);
  memory.add(problem.agreeing, problem.counts_agreement() ? results : 0, true);
  memory.add(problem.quantization, problem.row_blocks(), true);
  memory.add(problem.class_sums, problem.error_aware() ? problem.chunks * (problem.dense_classes + 1) * bits : 0, true);
  memory.add(problem.nonzero, problem.error_aware() ? problem.chunks * bits : 0, true);
  memory.add(problem.total_signs, problem.error_aware() ? bits : 0, true);
  if (!memory.allocate() || !weigh(problem, kernels, parallel)) return false;
  problem.gradient = gradient;
  if (!run_all(parallel, problem.row_blocks(), [&](int64_t index) { return kernels.pack_rows(problem, index); })) {
    return false;
  }
  if (!run_all(parallel, problem.tasks(), [&](int64_t task) { return kernels.run_task(problem, task); })) return false;

  if (problem.error_aware()) kernels.merge_signs(problem);
  double likelihood = 0, quantized = 0, poison = 0;
  for (int64_t task = 0; task < problem.tasks(); ++task) {
    const TaskSums& s = problem.sums[task];
    likelihood += problem.similar_weight * s.similar + problem.dissimilar_weight * s.dissimilar;
    poison += s.poison;
  }
  for (int64_t index = 0; index < problem.row_blocks(); ++index) poison += problem.poison[index];
  const PairwiseFactors factors = pairwise_factors(params);
  if (!run_all(parallel, problem.row_blocks(),
               [&](int64_t index) { return kernels.finish_rows(problem, factors, poison, outputs.grad, index); })) {
    return false;
  }
  for (int64_t index = 0; index < problem.row_blocks(); ++index) quantized += problem.quantization[index];
  const double similarity = likelihood * factors.pair + poison, quantization = quantized * factors.bit + poison;
  const double loss = similarity + params.eta * quantization;
  if (inputs.h_element == Element::f64) {
    write<double>(outputs, loss, similarity, quantization);
  } else {
    write<float>(outputs, loss, similarity, quantization);
  }
  return true;
}

void pairwise_loss_backward(Element element, const void* from, double factor, void* to, int64_t n) {
  switch (element) {
    case Element::f64:
      return select(element).scale_row(from, factor, to, n);
    case Element::f32:
      return select(element).scale_row(from, factor, to, n);
    case Element::bf16:
      return scale_and_narrow<BFloat16>(from, factor, to, n);
    case Element::f16:
      return scale_and_narrow<Float16>(from, factor, to, n);
  }
}

}  // namespace rdh::cpu
