// Signs of activations to packed bits: bit k of a row is h[k] >= 0, in byte k / 8 at place k % 8; NaN gives 0.
#pragma once

#include <cstdint>

#include "common/element.h"
#include "common/parallel.h"

namespace rdh {

// Bytes read and written at least: activations, and a bit of each.
constexpr int64_t pack_codes_bytes(int64_t rows, int64_t bits, int64_t element_bytes) {
  return rows * (bits * element_bytes + (bits + 7) / 8);
}

namespace cpu {

// h [rows, bits] contiguous to codes [rows, (bits + 7) / 8]. Returns whether h has NaN in it.
bool pack_codes(Element element, const void* h, int64_t rows, int64_t bits, uint8_t* codes, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int launch_pack_codes(Element element, const void* h, int64_t rows, int64_t bits, uint8_t* codes, void* stream);

}  // namespace cuda
}  // namespace rdh
