// The k gallery codes nearest to every query, in the order of (distance, gallery index).
#pragma once

#include <cstdint>

#include "common/parallel.h"
#include "kernels/hamming.h"

namespace rdh {

// Bytes read and written at least: codes, and the distance and the index of every neighbour.
constexpr int64_t hamming_topk_bytes(int64_t queries, int64_t gallery, int64_t bits, int64_t k) {
  return (queries + gallery) * ((bits + 7) / 8) + 10 * queries * k;
}

namespace cpu {

// distances and indices [queries, k], 1 <= k <= gallery. Returns false where memory is missing.
bool hamming_topk(const HammingInputs& inputs, int64_t k, int16_t* distances, int64_t* indices,
                  const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int64_t hamming_topk_workspace(const HammingInputs& inputs, int64_t k);

int launch_hamming_topk(const HammingInputs& inputs, int64_t k, int16_t* distances, int64_t* indices, void* workspace,
                        void* stream);

}  // namespace cuda
}  // namespace rdh
