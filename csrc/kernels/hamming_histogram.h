// Items and relevant items per distance: out[i, d, 0] = |{j : d(q_i, g_j) = d}|, out[i, d, 1] those relevant to i.
#pragma once

#include <cstdint>

#include "common/parallel.h"
#include "kernels/hamming.h"

namespace rdh {

// Bytes read and written at least: codes, and two counts for a query and a distance; labels do not count.
constexpr int64_t hamming_histogram_bytes(int64_t queries, int64_t gallery, int64_t bits) {
  return (queries + gallery) * ((bits + 7) / 8) + 16 * queries * (bits + 1);
}

namespace cpu {

// out [queries, bits + 1, 2], whatever was in it. Returns false where memory is missing.
bool hamming_histogram(const HammingInputs& inputs, const HammingLabels& labels, int64_t* out,
                       const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int64_t hamming_histogram_workspace(const HammingInputs& inputs, const HammingLabels& labels);

int launch_hamming_histogram(const HammingInputs& inputs, const HammingLabels& labels, int64_t* out, void* workspace,
                             void* stream);

}  // namespace cuda
}  // namespace rdh
