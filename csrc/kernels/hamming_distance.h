// All Hamming distances of two sets of codes: out[i, j] = popcount(q_i xor g_j), int16.
#pragma once

#include <cstdint>

#include "common/parallel.h"
#include "kernels/hamming.h"

namespace rdh {

// Bytes read and written at least: codes, and two for a pair.
constexpr int64_t hamming_distance_bytes(int64_t queries, int64_t gallery, int64_t bits) {
  return (queries + gallery) * ((bits + 7) / 8) + 2 * queries * gallery;
}

namespace cpu {

// out [queries, gallery]. Returns false where memory is missing.
bool hamming_distance(const HammingInputs& inputs, int16_t* out, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int launch_hamming_distance(const HammingInputs& inputs, int16_t* out, void* stream);

}  // namespace cuda
}  // namespace rdh
