// What the levels of the pairwise loss share: how the pairs are cut into tasks, the workspace, class ids made dense,
// an element of a matrix. Compiled for the baseline.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "common/workspace.h"
#include "kernels/pairwise_loss.h"

namespace rdh::cpu {

constexpr int64_t panel = 64;          // rows whose similarity with a column is one word
constexpr int64_t tile_panels = 4;     // of a task: its rows and their gradient stay in the second-level cache
constexpr int64_t block = 48;          // columns at a time: a multiple of all numbers of rows in a product; up to 64
constexpr int64_t narrow_blocks = 25;  // of columns whose gradient is summed as it is before it goes to double
constexpr int64_t most_tasks = 64;     // wanted for threads; columns are split to reach them

struct TaskSums {
  double similar, dissimilar;  // of the pairs' values, before weights; without weights all are in `dissimilar`
  double poison;               // 0, or NaN where something was not finite
  int64_t similar_pairs;
};

// A call: what came in, how it is cut, and where results go. The cuts depend on the shape alone, so that results do not
// depend on the number of threads.
struct Problem {
  PairwiseParams params;
  PairwiseInputs inputs;
  int64_t tiles, chunks, chunk_columns;
  bool narrow = false;  // a chunk's gradient is summed as it is, and goes to double when the chunks are added
  double similar_weight = 1, dissimilar_weight = 1;

  // class ids, made dense: -1 for a column whose class no row has
  const int32_t* row_class = nullptr;
  const int32_t* column_class = nullptr;
  int64_t dense_classes = 0;

  char* packed = nullptr;         // [row_blocks(), K, panel]: rows times scale, in the arithmetic of the call
  double* poison = nullptr;       // [row_blocks()]
  void* gradient = nullptr;       // [chunks, B, gradient_stride()]: narrow ? in the arithmetic of the call : double
  int32_t* agreeing = nullptr;    // [chunks, B, padded_bits()]: sum_j S_ij sign v_jk, where S is not of class ids
  int32_t* class_sums = nullptr;  // [chunks, dense_classes + 1, sign_bits()]: sum of sign v_jk per class; the rest last
  int32_t* nonzero = nullptr;     // [chunks, sign_bits()]: columns whose bit is not 0
  int32_t* total_signs = nullptr;  // [sign_bits()]: class_sums over all classes
  TaskSums* sums = nullptr;        // [tasks]
  double* quantization = nullptr;  // [row blocks]

  int64_t tasks() const { return tiles * chunks; }
  int64_t gradient_stride() const { return narrow ? round_up_to(params.bits, 16) : padded_bits(); }
  // rows of sums in double are read in whole vectors
  int64_t padded_bits() const { return round_up_to(params.bits, 8); }
  int64_t sign_bits() const { return round_up_to(params.bits, 64); }
  int64_t row_blocks() const { return (params.rows + panel - 1) / panel; }
  bool error_aware() const { return params.quantization == Quantization::error_aware; }
  bool counts_agreement() const { return error_aware() && inputs.similarity != Similarity::class_ids; }
};

inline void cut(Problem& problem) {
  const PairwiseParams& p = problem.params;
  constexpr int64_t tile = panel * tile_panels, narrow = block * narrow_blocks;
  problem.tiles = (p.rows + tile - 1) / tile;
  const int64_t most = (p.columns + narrow - 1) / narrow;
  int64_t chunks = problem.tiles > 0 ? most_tasks / problem.tiles : 1;
  const int64_t affordable = p.rows > 0 ? (p.rows + p.columns) / (2 * p.rows) : 1;  // in memory: a gradient for each
  chunks = std::min({chunks, most, affordable});
  problem.chunks = std::max<int64_t>(chunks, 1);
  problem.chunk_columns = round_up_to((p.columns + problem.chunks - 1) / problem.chunks, block);
  problem.narrow = problem.chunk_columns <= narrow;
}

// Class ids of any value, numbered from 0 in the order in which rows bring them: a table where they are small, else an
// open hash table.
class DenseIds {
 public:
  bool build(const int64_t* ids, int64_t n, int32_t* dense) {
    int64_t low = 0, high = -1;
    for (int64_t i = 0; i < n; ++i) {
      low = i == 0 || ids[i] < low ? ids[i] : low;
      high = i == 0 || ids[i] > high ? ids[i] : high;
    }
    low_ = low;
    const uint64_t span = n > 0 ? static_cast<uint64_t>(high) - static_cast<uint64_t>(low) : 0;
    direct_ = span < static_cast<uint64_t>(4 * n + 64);
    size_ = static_cast<uint64_t>(64);
    if (direct_) {
      size_ = span + 1;
    } else {
      while (size_ < static_cast<uint64_t>(2 * n)) size_ *= 2;
    }
    memory_.add(slots_, static_cast<int64_t>(size_));
    memory_.add(keys_, direct_ ? 0 : static_cast<int64_t>(size_));
    if (!memory_.allocate()) return false;
    for (uint64_t i = 0; i < size_; ++i) slots_[i] = -1;
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t at = slot(ids[i]);
      if (slots_[at] < 0) {
        slots_[at] = static_cast<int32_t>(count_++);
        if (!direct_) keys_[at] = ids[i];
      }
      dense[i] = slots_[at];
    }
    return true;
  }

  int32_t find(int64_t id) const {
    if (direct_ && static_cast<uint64_t>(id) - static_cast<uint64_t>(low_) >= size_) return -1;
    return slots_[slot(id)];
  }

  int64_t count() const { return count_; }

 private:
  // where the id is, or would be
  uint64_t slot(int64_t id) const {
    if (direct_) return static_cast<uint64_t>(id) - static_cast<uint64_t>(low_);
    uint64_t at = (static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15ull >> 20) & (size_ - 1);
    while (slots_[at] >= 0 && keys_[at] != id) at = (at + 1) & (size_ - 1);
    return at;
  }

  Workspace memory_;
  int32_t* slots_ = nullptr;
  int64_t* keys_ = nullptr;
  uint64_t size_ = 0;
  int64_t low_ = 0, count_ = 0;
  bool direct_ = true;
};

// One element of a matrix of 0 and others; the sign of a floating zero does not count.
inline bool is_similar(const PairwiseInputs& in, int64_t i, int64_t j) {
  const int64_t at = i * in.matrix_row + j * in.matrix_column;
  uint64_t bits = 0;
  std::memcpy(&bits, static_cast<const char*>(in.matrix) + at * in.matrix_bytes, static_cast<size_t>(in.matrix_bytes));
  if (in.matrix_floating) bits &= ~(uint64_t{1} << (8 * in.matrix_bytes - 1));  // little-endian, as all of torch
  return bits != 0;
}

}  // namespace rdh::cpu
