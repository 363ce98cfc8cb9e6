// Computes:  all Hamming distances: kernels/hamming_distance.h.
// Algorithm: bit-sliced: full adders over the bit planes of the gallery (kernels/hamming.h), flipped where the query
//            has a 1, give the digits of 512 distances; the digits are spread to bytes, and these to the 16 bits of the
//            result. A small gallery, or the last and ragged chunk of one, is compared word by word, by xor and a
//            count of bits, where that is faster (hamming_words.inl): a chunk takes as long for one item as for 4,096.
// Memory:    the lines of the gallery (hamming_problem.h), 2 K / 8 bytes an item, are made once where they take at most
//            64 MiB, else by every task (128 queries, 32,768 items at K = 64) for its slab; with few queries planes,
//            K / 8 bytes an item, unless they are given. Items that are compared word by word are copied by every block
//            of queries, in whole words. Writes 2 bytes a pair, which is what it takes its time for.
// Tiling:    slab by block of queries, 4,096 items at a time; a block of queries for the ragged chunk. Numerics:
//            integers.
// Limits:    K up to 4096.

#include "kernels/hamming_distance.h"

#include "common/cpu_level.h"
#include "common/intrinsics.h"
#include "common/target_region.h"
#include "kernels/cpu/hamming_problem.h"

namespace rdh::cpu {
namespace {

struct DistanceProblem {
  HammingInputs inputs;  // with the items that are in chunks of planes
  HammingCut cut;
  const SharedLines* lines;
  int64_t gallery;  // all items, and of a row of the result
  int16_t* out;
};

#define RDH_LEVEL_BODY "kernels/cpu/hamming_distance_simd.inl"
#include "common/every_bits_level.inl"
#undef RDH_LEVEL_BODY

}  // namespace

bool hamming_distance(const HammingInputs& inputs, int16_t* out, const Parallel& parallel) {
  HammingInputs chunks = inputs;
  const int64_t ragged = inputs.gallery % chunk_items;
  const bool by_words = ragged > 0 && RDH_AT_LEVEL(words_pay)(inputs, ragged);
  if (by_words) chunks.gallery -= ragged;
  const HammingCut cut(chunks, SlabSize::half);
  SharedLines lines;
  if (!lines.make(chunks, cut, RDH_AT_LEVEL(words_of_slab), RDH_AT_LEVEL(make_slab), parallel)) return false;
  const DistanceProblem problem{chunks, cut, &lines, inputs.gallery, out};
  const int64_t tasks = cut.tasks();
  return run_all(parallel, by_words ? tasks + cut.blocks : tasks,
                 [&, task = RDH_AT_LEVEL(run_task), rest = RDH_AT_LEVEL(run_rest)](int64_t index) {
                   return index < tasks ? task(problem, index) : rest(problem, index - tasks);
                 });
}

}  // namespace rdh::cpu
