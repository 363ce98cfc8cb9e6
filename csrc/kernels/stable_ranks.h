// Where the relevant items stand when ties are broken by gallery order, counted and never sorted:
//   rank(i, j) = |{j' : d(i, j') < d(i, j)}| + |{j' <= j : d(i, j') = d(i, j)}|,
// from the histogram of kernels/hamming_histogram.h and one more pass over the pairs.
//
// The gallery may be a piece of a larger one: then `shift` [queries, bits + 1, 2] is what the other pieces add to the
// rank at a distance, and to the rank among the relevant items; null adds nothing.
//
// Sums of precisions are exact, so that the sums of pieces add up to those of the whole, bit for bit: a term (relevant
// items up to the rank) / rank is rounded to double, which for ranks up to 2^40 is a multiple of 2^-92, and summed in
// integers. They come as three: of ones, of 2^-46 and of 2^-92, the last two below 2^46.
#pragma once

#include <cstdint>

#include "common/parallel.h"
#include "kernels/hamming.h"

namespace rdh {

constexpr int sum_digits = 46;  // of the second and the third part of a sum

namespace cpu {

// The ranks (from 1) of the relevant items of every query, ascending, one query behind the other: as many as the
// histogram [queries, bits + 1, 2] has. Returns false where memory is missing.
bool stable_ranks(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram, int64_t* ranks,
                  const Parallel& parallel);

// Per query, over the relevant items of rank <= limit: the sum of (relevant items up to it) / rank, [queries, 3], and
// found, their number.
bool stable_precision_sum(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram,
                          const int64_t* shift, int64_t limit, int64_t* sum, int64_t* found, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// offsets [queries + 1]: where the ranks of each query begin, and how many there are in all.
int launch_relevant_items(const int64_t* histogram, int64_t queries, int64_t bits, int64_t* offsets, void* stream);

int64_t stable_ranks_workspace(const HammingInputs& inputs, const HammingLabels& labels);

int launch_stable_ranks(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram,
                        int64_t* ranks, void* workspace, void* stream);

int launch_stable_precision_sum(const HammingInputs& inputs, const HammingLabels& labels, const int64_t* histogram,
                                const int64_t* shift, int64_t limit, int64_t* sum, int64_t* found, void* workspace,
                                void* stream);

}  // namespace cuda
}  // namespace rdh
