// All Hamming distances of two sets of codes: out[i, j] = popcount(q_i xor g_j), int16.
#pragma once

#include <cstdint>

#include "common/parallel.h"
#include "kernels/hamming.h"

namespace rdh {

namespace cpu {

// out [queries, gallery]. Returns false where memory is missing.
bool hamming_distance(const HammingInputs& inputs, int16_t* out, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int launch_hamming_distance(const HammingInputs& inputs, int16_t* out, void* stream);

}  // namespace cuda
}  // namespace rdh
