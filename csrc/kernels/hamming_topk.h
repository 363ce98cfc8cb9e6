// The k gallery codes nearest to every query, in the order of (distance, gallery index).
#pragma once

#include <cstdint>

#include "common/parallel.h"
#include "kernels/hamming.h"

namespace rdh {

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
