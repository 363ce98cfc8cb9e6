// Computes:  bit planes of packed codes: kernels/hamming.h has the format.
// Algorithm: squares of 64 x 64 bits are transposed by swaps of halves, quarters and so on, a lane of the register for
//            each, so that what a lane holds goes where the format wants it.
// Memory:    reads the codes and writes as much; a task is 4,096 codes.
// Tiling:    8 registers of rows apart by 512 codes; 64 bits of a code at a time.
// Numerics:  none. Limits: codes of 1 to 512 bytes.
// References: Warren, Hacker's Delight, 2nd ed., ch. 7.

#include "kernels/bit_planes.h"

#include "common/cpu_level.h"
#include "common/intrinsics.h"
#include "common/target_region.h"
#include "kernels/cpu/hamming_problem.h"

namespace rdh::cpu {
namespace {

#define RDH_LEVEL_BODY "kernels/cpu/hamming_planes.inl"
#include "common/every_bits_level.inl"
#undef RDH_LEVEL_BODY

}  // namespace

void bit_planes(const uint8_t* codes, int64_t rows, int64_t bytes, int64_t bits, uint64_t* planes,
                const Parallel& parallel) {
  parallel(chunks_of(rows), [&, make_planes = RDH_AT_LEVEL(make_planes)](int64_t chunk) {
    const int64_t first = chunk * chunk_items;
    make_planes(codes + first * bytes, std::min(chunk_items, rows - first), bytes, bits, planes + chunk * bits * 64);
  });
}

}  // namespace rdh::cpu
