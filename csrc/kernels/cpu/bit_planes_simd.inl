// Bit planes over any Bits. Included for every level.

#include "kernels/cpu/hamming_planes.inl"

inline void chunk_planes(const uint8_t* codes, int64_t rows, int64_t bytes, int64_t bits, uint64_t* planes) {
  make_planes(codes, rows, bytes, bits, planes);
}
