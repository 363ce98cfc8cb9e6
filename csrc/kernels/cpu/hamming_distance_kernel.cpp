// Computes:  all Hamming distances: kernels/hamming_distance.h.
// Algorithm: bit-sliced: full adders over the bit planes of the gallery (kernels/hamming.h), flipped where the query
//            has a 1, give the digits of 512 distances; the digits are spread to bytes, and these to the 16 bits of the
//            result.
// Memory:    the lines of the gallery (hamming_problem.h), 2 K / 8 bytes an item, are made once where they take at most
//            64 MiB, else by every task (128 queries, 32,768 items at K = 64) for its slab; with few queries planes,
//            K / 8 bytes an item, unless they are given. Writes 2 bytes a pair, which is what it takes its time for.
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
  const SharedLines* lines;
  int16_t* out;
};

#define RDH_LEVEL_BODY "kernels/cpu/hamming_distance_simd.inl"
#include "common/every_bits_level.inl"
#undef RDH_LEVEL_BODY

}  // namespace

bool hamming_distance(const HammingInputs& inputs, int16_t* out, const Parallel& parallel) {
  const HammingCut cut(inputs, SlabSize::half);
  SharedLines lines;
  if (!lines.make(inputs, cut, RDH_AT_LEVEL(words_of_slab), RDH_AT_LEVEL(make_slab), parallel)) return false;
  const DistanceProblem problem{inputs, cut, &lines, out};
  return run_all(parallel, problem.cut.tasks(),
                 [&, task = RDH_AT_LEVEL(run_task)](int64_t index) { return task(problem, index); });
}

}  // namespace rdh::cpu
