// Where the relevant items stand when ties are broken by gallery order, counted and never sorted:
//   rank(i, j) = |{j' : d(i, j') < d(i, j)}| + |{j' <= j : d(i, j') = d(i, j)}|,
// from the histogram of kernels/hamming_histogram.h and one more pass over the pairs.
#pragma once

#include <cstdint>

#include "common/parallel.h"
#include "kernels/hamming.h"

namespace rdh {

namespace cpu {

// The ranks (from 1) of the relevant items of every query, ascending, one query behind the other: as many as the
// histogram [queries, bits + 1, 2] has. Returns false where memory is missing.
bool stable_ranks(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram, int64_t* ranks,
                  const Parallel& parallel);

// Per query, over the relevant items of rank <= limit: total = the sum of (relevant items up to it) / rank, and found,
// their number. The order of summation depends on the gallery and on nothing else.
bool stable_precision_sum(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram,
                          int64_t limit, double* total, int64_t* found, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// offsets [queries + 1]: where the ranks of each query begin, and how many there are in all.
int launch_relevant_items(const int64_t* histogram, int64_t queries, int64_t bits, int64_t* offsets, void* stream);

int64_t stable_ranks_workspace(const HammingInputs& inputs, const HammingLabels& labels);

int launch_stable_ranks(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram,
                        int64_t* ranks, void* workspace, void* stream);

int launch_stable_precision_sum(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram,
                                int64_t limit, double* total, int64_t* found, void* workspace, void* stream);

}  // namespace cuda
}  // namespace rdh
