// Packed bits to signs: +1 where a bit is set, else -1.
#pragma once

#include <cstdint>

#include "common/parallel.h"

namespace rdh {

// Bytes read and written at least: a bit each, and a float.
constexpr int64_t unpack_codes_bytes(int64_t rows, int64_t bits) { return rows * (4 * bits + (bits + 7) / 8); }

namespace cpu {

// codes [rows, (bits + 7) / 8] to signs [rows, bits].
void unpack_codes(const uint8_t* codes, int64_t rows, int64_t bits, float* signs, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int launch_unpack_codes(const uint8_t* codes, int64_t rows, int64_t bits, float* signs, void* stream);

}  // namespace cuda
}  // namespace rdh
