// All distances over any Bits. Included for every level.

#include "kernels/cpu/hamming_planes.inl"

inline bool run_task(const DistanceProblem& problem, int64_t index) {
  const HammingInputs& in = problem.inputs;
  const HammingTask task(in, problem.cut, index);
  Workspace memory;
  uint64_t *own_planes = nullptr, *flips = nullptr;
  uint8_t* bytes = nullptr;
  memory.add(own_planes, words_of_own_planes(in, task));
  memory.add(flips, in.bits);
  memory.add(bytes, 2 * chunk_items, true);
  if (!memory.allocate()) return false;
  const uint64_t* planes = planes_of(in, task, own_planes);
  for (int64_t i = 0; i < task.queries; ++i) {
    const int64_t query = task.first_query + i;
    make_flips(in.q + query * in.bytes, in.bits, flips);
    for (int64_t chunk = 0; chunk < task.chunks; ++chunk) {
      distances(planes + chunk * in.bits * 64, flips, in.bits, bytes, bytes + chunk_items);
      const int64_t first = chunk * chunk_items, items = std::min(chunk_items, task.items - first);
      int16_t* out = problem.out + query * in.gallery + task.first_item + first;
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
