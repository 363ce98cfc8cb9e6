// All distances over any Bits. Included for every level.

#include "kernels/cpu/hamming_adders.inl"
#include "kernels/cpu/hamming_words.inl"

inline bool run_task(const DistanceProblem& problem, int64_t index) {
  const HammingInputs& in = problem.inputs;
  const HammingTask task(in, problem.cut, index);
  Workspace memory;
  uint64_t* own = nullptr;
  Flips flips{};
  uint8_t* bytes = nullptr;
  memory.add(own, problem.lines->of(task.slab) != nullptr ? 0 : words_of_slab(in, task.chunks));
  memory.add(flips.flip, in.bits);
  memory.add(flips.at, in.bits);
  memory.add(bytes, 2 * chunk_items, true);
  if (!memory.allocate()) return false;
  const Slab slab = slab_of(in, task, *problem.lines, own);
  for (int64_t i = 0; i < task.queries; ++i) {
    const int64_t query = task.first_query + i;
    flips.make(in.q + query * in.bytes, in.bits, slab.carried);
    for (int64_t chunk = 0; chunk < task.chunks; ++chunk) {
      distances(slab, chunk, flips, bytes, bytes + chunk_items);
      const int64_t first = chunk * chunk_items, items = std::min(chunk_items, task.items - first);
      int16_t* out = problem.out + query * problem.gallery + task.first_item + first;
      const uint8_t *low = bytes, *high = bytes + chunk_items;
      if (in.bits <= 255) {
        for (int64_t j = 0; j < items; ++j) out[j] = low[j];
      } else {
        for (int64_t j = 0; j < items; ++j) out[j] = static_cast<int16_t>(low[j] | high[j] << 8);
      }
    }
  }
  return true;
}

// A block of queries on the items behind the planes.
inline bool run_rest(const DistanceProblem& problem, int64_t block) {
  const HammingInputs& in = problem.inputs;
  const int64_t items = problem.gallery - in.gallery, words = words_of_code(in.bytes);
  const int64_t first = block * query_block, end = std::min(first + query_block, in.queries);
  Workspace memory;
  uint64_t *blocks = nullptr, *own = nullptr;
  memory.add(blocks, words_of_blocks(items, in.bytes));
  memory.add(own, words);
  if (!memory.allocate()) return false;
  make_blocks(in.g + in.gallery * in.bytes, items, in.bytes, blocks);
  for (int64_t query = first; query < end; ++query) {
    for (int64_t word = 0; word < words; ++word) own[word] = word_of(in.q + query * in.bytes, in.bytes, 8 * word);
    int16_t* out = problem.out + query * problem.gallery + in.gallery;
    if (words == 1) {
      scan_blocks<1>(blocks, items, own, words, out);
    } else {
      scan_blocks<0>(blocks, items, own, words, out);
    }
  }
  return true;
}
