// Computes:  all Hamming distances: kernels/hamming_distance.h.
// Algorithm: bit-sliced: full adders over the bit planes of the gallery (kernels/hamming.h), flipped where the query
//            has a 1, give the digits of 512 distances; the digits are spread to bytes, and these to the 16 bits of the
//            result.
// Memory:    a task (128 queries, 65,536 items at K = 64) makes the planes of its slab, K / 8 bytes an item, unless it
//            is given them; writes 2 bytes a pair, which is what it takes its time for.
// Tiling:    slab by block of queries, 4,096 items at a time. Numerics: integers.
// Limits:    K up to 4096.

#include "kernels/hamming_distance.h"

#include "common/cpu_level.h"
#include "common/intrinsics.h"
#include "common/target_region.h"
#include "kernels/cpu/hamming_problem.h"

namespace rdh::cpu {
namespace {

struct DistanceProblem {
  HammingInputs inputs;
  HammingCut cut;
  int16_t* out;
};

#define RDH_LEVEL_BODY "kernels/cpu/hamming_distance_simd.inl"
#include "common/every_bits_level.inl"
#undef RDH_LEVEL_BODY

}  // namespace

bool hamming_distance(const HammingInputs& inputs, int16_t* out, const Parallel& parallel) {
  const DistanceProblem problem{inputs, HammingCut(inputs, SlabSize::half), out};
  return run_all(parallel, problem.cut.tasks(),
                 [&, task = RDH_AT_LEVEL(run_task)](int64_t index) { return task(problem, index); });
}

}  // namespace rdh::cpu
