// The CPU kernels of the Hamming ops on inputs that end where their memory ends: random sizes and labels, held to a
// count of bits one pair at a time. To be built with ASan and UBSan, which watch; test_memory.py does it.
//
//     hamming_memory CASES SEED [short]     the last: with a gallery one byte shorter than it is said to be

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "chance.h"

#include "kernels/bit_planes.h"
#include "kernels/hamming_distance.h"
#include "kernels/hamming_histogram.h"
#include "kernels/hamming_topk.h"
#include "kernels/pack_codes.h"
#include "kernels/stable_ranks.h"
#include "kernels/unpack_codes.h"

namespace {

using namespace rdh;

bool is_short = false;

void backwards(int64_t n, const std::function<void(int64_t)>& body) {
  for (int64_t i = n; i-- > 0;) body(i);
}

// Signs of which some are alike, so that codes repeat.
std::vector<float> random_signs(Random& random, int64_t rows, int64_t bits) {
  std::vector<float> h(static_cast<size_t>(rows * bits));
  for (int64_t i = 0; i < rows; ++i) {
    const bool again = i > 0 && random.one_in(3);
    const int64_t from = again ? random.below(static_cast<int>(i)) : 0;
    for (int64_t k = 0; k < bits; ++k) {
      h[i * bits + k] = again ? h[from * bits + k] : random.one_in(2) ? 1.0f : -1.0f;
    }
  }
  return h;
}

struct Case {
  int64_t queries, gallery, bits, bytes, classes;
  std::vector<float> q_signs, g_signs;
  std::vector<uint8_t> q, g, q_rows, g_rows, bytes_ids;
  std::vector<uint64_t> planes, label_planes;
  std::vector<int64_t> q_ids, g_ids;
  HammingInputs inputs{};
  HammingLabels labels{};

  explicit Case(Random& random)
      : queries(random.pick({0, 1, 3, 40, 70, 130})),
        gallery(random.pick({0, 1, 63, 64, 65, 511, 513, 4095, 4097, 9000})),
        bits(random.pick({1, 5, 8, 24, 33, 64, 65, 128, 255, 256, 300, 1000})),
        bytes((bits + 7) / 8),
        classes(random.pick({1, 5, 63, 64, 70, 200})) {
    if (queries * gallery * bits > 13'000'000) queries = 2;
    q_signs = random_signs(random, queries, bits);
    g_signs = random_signs(random, gallery, bits);
    q.resize(static_cast<size_t>(queries * bytes));
    g.resize(static_cast<size_t>(gallery * bytes));
    cpu::pack_codes(Element::f32, q_signs.data(), queries, bits, q.data(), backwards);
    cpu::pack_codes(Element::f32, g_signs.data(), gallery, bits, g.data(), backwards);
    if (is_short && !g.empty()) {
      g.pop_back();
      g.shrink_to_fit();
    }
    inputs = {q.data(), g.data(), nullptr, queries, gallery, bytes, bits};
    if (random.one_in(2)) {
      planes.resize(static_cast<size_t>(plane_words(gallery, bits)));
      cpu::bit_planes(g.data(), gallery, bytes, bits, planes.data(), backwards);
      inputs.planes = planes.data();
    }
    random.one_in(2) ? make_ids(random) : make_rows(random);
  }

  void make_ids(Random& random) {
    labels.kind = LabelKind::class_ids;
    const int different = random.pick({1, 3, 100, 250});
    const int64_t step = random.pick<int64_t>({1, 1000, int64_t{1} << 40});
    for (int64_t i = 0; i < queries; ++i) q_ids.push_back(step * random.below(different));
    for (int64_t i = 0; i < gallery; ++i) g_ids.push_back(step * random.below(different));
    labels.q_ids = q_ids.data();
    labels.g_ids = g_ids.data();
    labels.g_id_bytes = 8;
    if (step == 1 && random.one_in(2)) {
      bytes_ids.assign(g_ids.begin(), g_ids.end());
      labels.g_ids = bytes_ids.data();
      labels.g_id_bytes = 1;
    }
  }

  void make_rows(Random& random) {
    labels.kind = LabelKind::multi_hot;
    labels.classes = classes;
    const int rarity = random.pick({2, 20, 300});
    q_rows.resize(static_cast<size_t>(queries * classes));
    g_rows.resize(static_cast<size_t>(gallery * classes));
    for (uint8_t& label : q_rows) label = random.one_in(rarity);
    for (uint8_t& label : g_rows) label = random.one_in(rarity);
    labels.q_rows = q_rows.data();
    labels.g_rows = g_rows.data();
    if (!random.one_in(2)) return;
    std::vector<float> signs;
    for (uint8_t label : g_rows) signs.push_back(label != 0 ? 1.0f : -1.0f);
    std::vector<uint8_t> packed(static_cast<size_t>(gallery * ((classes + 7) / 8)));
    cpu::pack_codes(Element::f32, signs.data(), gallery, classes, packed.data(), backwards);
    label_planes.resize(static_cast<size_t>(plane_words(gallery, classes)));
    cpu::bit_planes(packed.data(), gallery, (classes + 7) / 8, classes, label_planes.data(), backwards);
    labels.kind = LabelKind::planes;
    labels.g_rows = nullptr;
    labels.g_planes = label_planes.data();
  }

  int distance(int64_t i, int64_t j) const {
    int d = 0;
    for (int64_t k = 0; k < bits; ++k) d += q_signs[i * bits + k] != g_signs[j * bits + k];
    return d;
  }
  bool relevant(int64_t i, int64_t j) const {
    if (labels.kind == LabelKind::class_ids) return q_ids[i] == g_ids[j];
    for (int64_t c = 0; c < classes; ++c) {
      if (q_rows[i * classes + c] != 0 && g_rows[j * classes + c] != 0) return true;
    }
    return false;
  }
};

using Exact = unsigned __int128;  // in units of 2^-92

Exact exact(const int64_t* parts) {
  return (static_cast<Exact>(parts[0]) << 2 * sum_digits) + (static_cast<Exact>(parts[1]) << sum_digits) +
         static_cast<Exact>(parts[2]);
}

// NaN at one place at most: found, a 0 bit, and nothing else is different.
bool packs_nan(Random& random) {
  const int64_t rows = random.pick({1, 2, 9, 700}), bits = random.pick({1, 7, 8, 12, 63, 64, 65, 100, 1000});
  std::vector<float> h = random_signs(random, rows, bits);
  std::vector<uint8_t> codes(static_cast<size_t>(rows * ((bits + 7) / 8))), expected = codes;
  if (cpu::pack_codes(Element::f32, h.data(), rows, bits, expected.data(), backwards)) return false;
  const int64_t place = random.one_in(2) ? rows * bits - 1 : random.below(static_cast<int>(rows * bits));
  h[place] = std::numeric_limits<float>::quiet_NaN();
  const int64_t bit = place % bits;
  expected[place / bits * ((bits + 7) / 8) + bit / 8] &= static_cast<uint8_t>(~(1u << bit % 8));
  return cpu::pack_codes(Element::f32, h.data(), rows, bits, codes.data(), backwards) && codes == expected;
}

bool run_one(Random& random) {
  const Case c(random);
  const int64_t row = 2 * (c.bits + 1), k = c.gallery > 0 ? 1 + random.below(static_cast<int>(c.gallery)) : 0;
  const int64_t rest = random.pick<int64_t>({0, 0, 1000, int64_t{1} << 39});  // items of other pieces, at most
  const int64_t some = rest / 2 + random.below(static_cast<int>(c.gallery) + 2);
  const int64_t limit = random.one_in(4) ? std::numeric_limits<int64_t>::max() : some;
  std::vector<float> signs(static_cast<size_t>(c.queries * c.bits));
  std::vector<int16_t> all(static_cast<size_t>(c.queries * c.gallery)), nearest(static_cast<size_t>(c.queries * k));
  std::vector<int64_t> histogram(static_cast<size_t>(c.queries * row)), index(static_cast<size_t>(c.queries * k));
  std::vector<int64_t> shift(rest > 0 ? histogram.size() : 0), found(static_cast<size_t>(c.queries));
  std::vector<int64_t> total(static_cast<size_t>(3 * c.queries));
  for (size_t i = 0; i < shift.size(); i += 2) {
    shift[i] = rest / (1 + random.below(3));
    shift[i + 1] = shift[i] / random.pick<int64_t>({1, 7, shift[i] + 1});
  }
  const int64_t* const added = rest > 0 ? shift.data() : nullptr;
  cpu::unpack_codes(c.q.data(), c.queries, c.bits, signs.data(), backwards);
  if (signs != c.q_signs) return false;
  bool enough = cpu::hamming_distance(c.inputs, all.data(), backwards) &&
                cpu::hamming_histogram(c.inputs, c.labels, histogram.data(), backwards) &&
                cpu::stable_precision_sum(c.inputs, c.labels, histogram.data(), added, limit, total.data(),
                                          found.data(), backwards);
  if (enough && k > 0) enough = cpu::hamming_topk(c.inputs, k, nearest.data(), index.data(), backwards);
  int64_t relevant_items = 0;
  for (int64_t i = 1; i < c.queries * row; i += 2) relevant_items += histogram[i];
  std::vector<int64_t> ranks(static_cast<size_t>(relevant_items));
  enough = enough && cpu::stable_ranks(c.inputs, c.labels, histogram.data(), ranks.data(), backwards);
  if (!enough) return false;

  const int64_t* rank = ranks.data();
  for (int64_t i = 0; i < c.queries; ++i) {
    std::vector<int64_t> order(static_cast<size_t>(c.gallery)), counts(static_cast<size_t>(row));
    for (int64_t j = 0; j < c.gallery; ++j) {
      order[j] = j;
      if (all[i * c.gallery + j] != c.distance(i, j)) return false;
      ++counts[2 * c.distance(i, j)];
      counts[2 * c.distance(i, j) + 1] += c.relevant(i, j);
    }
    if (!std::equal(counts.begin(), counts.end(), histogram.begin() + i * row)) return false;
    const int16_t* of_query = all.data() + i * c.gallery;
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return of_query[a] < of_query[b]; });
    int64_t before = 0, within = 0;
    Exact sum = 0;
    for (int64_t j = 0; j < c.gallery; ++j) {
      if (j < k && (index[i * k + j] != order[j] || nearest[i * k + j] != of_query[order[j]])) return false;
      if (!c.relevant(i, order[j])) continue;
      if (*rank++ != j + 1) return false;
      ++before;
      const int64_t at = i * row + 2 * of_query[order[j]];
      const int64_t up_to = j + 1 + (added != nullptr ? added[at] : 0);
      if (up_to > limit) continue;
      ++within;
      const int64_t relevant_up_to = before + (added != nullptr ? added[at + 1] : 0);
      sum += static_cast<Exact>(static_cast<double>(relevant_up_to) / static_cast<double>(up_to) * 0x1p92);
    }
    const int64_t* parts = total.data() + 3 * i;
    if (found[i] != within || exact(parts) != sum || std::max(parts[1], parts[2]) >> sum_digits != 0) return false;
  }
  return rank == ranks.data() + relevant_items;
}

}  // namespace

int main(int count, char** arguments) {
  const int cases = count > 1 ? std::atoi(arguments[1]) : 60;
  Random random(count > 2 ? static_cast<unsigned>(std::atoi(arguments[2])) : 1);
  is_short = count > 3;
  for (int i = 0; i < cases; ++i) {
    if (!run_one(random) || !packs_nan(random)) {
      std::fprintf(stderr, "case %d: a wrong result\n", i);
      return 1;
    }
  }
  std::printf("%d cases at the lowest level\n", cases);
}
