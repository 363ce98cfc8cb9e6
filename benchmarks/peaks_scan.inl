// The plain scan over packed codes, for peaks.cpp. Included inside a target region, after the level's Codes<Word>:
// codes of one Word each, `width` of them in a vector V, and what is made of a vector once before it is compared with
// many.

// The sum of the distances of all pairs: xor and popcount of each, its distance in a lane of its own, added and
// forgotten. Some vectors of the gallery stay in registers while all queries pass: memory does not count.
template <class Word>
inline int64_t sum_of_distances(const Query<Word>* q, int64_t queries, const Word* g, int64_t gallery) {
  using L = Codes<Word>;
  constexpr int vectors = L::vectors, block = vectors * L::width;
  int64_t total = 0, j = 0;
  for (; j + block <= gallery; j += block) {
    typename L::Items items[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) items[v] = L::items(g + j + v * L::width);
    typename L::V sums[2] = {L::zero(), L::zero()};
    for (int64_t i = 0; i < queries; ++i) {
      const typename L::Items query = L::all(q[i]);
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sums[v % 2] = L::add(sums[v % 2], L::distances(items[v], query));
    }
    Word lanes[2 * L::width];
    L::store(lanes, sums[0]);
    L::store(lanes + L::width, sums[1]);
    for (const Word lane : lanes) total += static_cast<int64_t>(lane);
  }
  for (; j < gallery; ++j) {
    for (int64_t i = 0; i < queries; ++i) total += __builtin_popcountll(q[i].word ^ g[j]);
  }
  return total;
}
