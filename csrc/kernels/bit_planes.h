// Bit planes of packed codes; the format: kernels/hamming.h.
#pragma once

#include <cstdint>

#include "common/parallel.h"

namespace rdh {

namespace cpu {

// codes [rows, bytes] to plane_words(rows, bits) words.
void bit_planes(const uint8_t* codes, int64_t rows, int64_t bytes, int64_t bits, uint64_t* planes,
                const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int launch_bit_planes(const uint8_t* codes, int64_t rows, int64_t bytes, int64_t bits, uint64_t* planes, void* stream);

}  // namespace cuda
}  // namespace rdh
