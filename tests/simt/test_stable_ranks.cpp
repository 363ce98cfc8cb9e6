// Ranks of relevant items against a stable sort of all distances, and the sums over them: codes of one word, two, four
// and more, every form of labels, several pieces and groups of queries, limits, ragged and empty.

#include "kernels/cuda/stable_ranks_kernel.cu"

#include <cmath>
#include <numeric>

#include "hamming_labels.h"

namespace {

using namespace hamming_cases;
using namespace rdh::cuda;

constexpr Sizes small{16, 64, 64, 2};

double value_of(const std::vector<int64_t>& parts, size_t query) {
  const int64_t* own = parts.data() + 3 * query;
  return static_cast<double>(own[0]) + static_cast<double>(own[1]) * 0x1p-46 + static_cast<double>(own[2]) * 0x1p-92;
}

void expect_ranks(Form form, int64_t queries, int64_t gallery, int64_t bits, int64_t classes,
                  const Sizes& sizes = small, size_t offset = 0) {
  Pair pair(queries, gallery, bits, offset, 30);
  const Labels labels(form, queries, gallery, classes, pair.random);
  const auto in = pair.inputs();
  const auto view = labels.view();
  std::vector<int64_t> expected, histogram(static_cast<size_t>(queries * (bits + 1) * 2));
  const int64_t limit = gallery / 2;
  std::vector<long double> sums;
  std::vector<int64_t> within;
  for (int64_t i = 0; i < queries; ++i) {
    std::vector<int64_t> order(static_cast<size_t>(gallery)), d;
    for (int64_t j = 0; j < gallery; ++j) d.push_back(distance(pair.q, i, pair.g, j));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return d[size_t(a)] < d[size_t(b)]; });
    int64_t found = 0;
    sums.push_back(0);
    within.push_back(0);
    for (int64_t n = 0; n < gallery; ++n) {
      const int64_t item = order[static_cast<size_t>(n)];
      const auto at = static_cast<size_t>((i * (bits + 1) + d[size_t(item)]) * 2);
      ++histogram[at];
      if (!labels.relevant(i, item)) continue;
      ++histogram[at + 1];
      expected.push_back(n + 1);
      ++found;
      if (n + 1 > limit) continue;
      sums.back() += static_cast<double>(found) / static_cast<double>(n + 1);
      within.back() = found;
    }
  }
  const DeviceArray<int64_t> counts(histogram), out(expected.size()), found(static_cast<size_t>(queries));
  const DeviceArray<int64_t> total(static_cast<size_t>(queries * 3));
  const DeviceArray<char> workspace(static_cast<size_t>(ranks_workspace(in, view, sizes)));
  const Results all{out.data(), nullptr, 0, nullptr, nullptr},
      summed{nullptr, nullptr, limit, total.data(), found.data()};
  EXPECT(ranks(in, view, counts.data(), all, workspace.data(), sizes, nullptr) == cudaSuccess);
  FINISH();
  EXPECT(out.read() == expected, "%d x %d, %d bits", int(queries), int(gallery), int(bits));
  EXPECT(ranks(in, view, counts.data(), summed, workspace.data(), sizes, nullptr) == cudaSuccess);
  FINISH();
  EXPECT(found.read() == within, "%d x %d, %d bits", int(queries), int(gallery), int(bits));
  for (size_t i = 0; i < sums.size(); ++i) {
    const double sum = static_cast<double>(sums[i]), got = value_of(total.read(), i);
    EXPECT(std::fabs(got - sum) <= 2.3e-16 * sum, "query %d: %.17g, %.17g", int(i), got, sum);
  }
}

// The sums over two pieces, the second of which knows of the first and the first of the second, are those of the whole.
void expect_pieces(Form form, int64_t queries, int64_t first, int64_t second, int64_t bits, int64_t classes,
                   const Sizes& sizes = small) {
  Pair pair(queries, first + second, bits, 0, 20);
  const Labels labels(form, queries, first + second, classes, pair.random);
  const auto view = labels.view();
  const auto in = pair.inputs();
  const int64_t row = 2 * (bits + 1);
  std::vector<int64_t> whole(static_cast<size_t>(queries * row)), early(whole.size()), shifts[2];
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < first + second; ++j) {
      const auto at = static_cast<size_t>(i * row + 2 * distance(pair.q, i, pair.g, j));
      for (auto* counts : {&whole, &early}) {
        if (counts == &early && j >= first) continue;
        ++(*counts)[at];
        (*counts)[at + 1] += labels.relevant(i, j);
      }
    }
  }
  for (auto& shift : shifts) shift.resize(whole.size());
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t kind = 0; kind < 2; ++kind) {
      int64_t closer[2] = {};
      for (auto at = static_cast<size_t>(i * row + kind); at < static_cast<size_t>((i + 1) * row); at += 2) {
        shifts[0][at] = closer[0];
        shifts[1][at] = closer[1] + early[at];
        closer[0] += whole[at] - early[at];
        closer[1] += early[at];
      }
    }
  }
  const int64_t limit = (first + second) * 2 / 3;
  std::vector<int64_t> sums[3], found[3];
  for (int piece = 0; piece < 3; ++piece) {  // the third is the whole
    rdh::HammingInputs some = in;
    rdh::HammingLabels of_some = view;
    if (piece == 1) {
      some.g += first * in.bytes;
      of_some.g_ids = static_cast<const uint8_t*>(view.g_ids) + first * view.g_id_bytes;
      if (of_some.g_rows != nullptr) of_some.g_rows += first * view.classes;
    }
    if (piece < 2) some.gallery = piece == 0 ? first : second;
    const DeviceArray<int64_t> counts(whole), shift(piece < 2 ? shifts[piece] : whole);
    const DeviceArray<int64_t> total(static_cast<size_t>(3 * queries)), within(static_cast<size_t>(queries));
    const DeviceArray<char> workspace(static_cast<size_t>(ranks_workspace(some, of_some, sizes)));
    const Results results{nullptr, piece < 2 ? shift.data() : nullptr, limit, total.data(), within.data()};
    EXPECT(ranks(some, of_some, counts.data(), results, workspace.data(), sizes, nullptr) == cudaSuccess);
    FINISH();
    sums[piece] = total.read();
    found[piece] = within.read();
  }
  for (size_t i = 0; i < static_cast<size_t>(queries); ++i) {
    EXPECT(found[0][i] + found[1][i] == found[2][i], "query %d", int(i));
    int64_t carry = 0;
    for (size_t part = 3 * i + 2; part > 3 * i; --part) {
      const int64_t sum = sums[0][part] + sums[1][part] + carry;
      EXPECT((sum & ((int64_t{1} << rdh::sum_digits) - 1)) == sums[2][part], "query %d, part %d", int(i), int(part));
      carry = sum >> rdh::sum_digits;
    }
    EXPECT(sums[0][3 * i] + sums[1][3 * i] + carry == sums[2][3 * i], "query %d", int(i));
  }
}

TEST(a_word) {
  expect_ranks(Form::bytes8, 33, 150, 24, 4);
  expect_ranks(Form::planes, 4, 150, 7, 5, small, 1);
}
TEST(two_words) {
  expect_ranks(Form::bytes2, 1, 300, 48, 3);
  expect_ranks(Form::rows, 18, 150, 48, 40);
}
TEST(four_words) {
  expect_ranks(Form::bytes4, 18, 100, 65, 4);
  expect_ranks(Form::planes, 3, 150, 65, 33);
}
TEST(many_words) {
  expect_ranks(Form::bytes1, 18, 70, 130, 4);
  expect_ranks(Form::rows, 2, 150, 130, 7);
}
// Two tiles at a time, and tiles whose counts are flushed on the way.
TEST(groups_of_queries) { expect_ranks(Form::bytes8, 140, 70, 8, 3, Sizes{2, 64, 64, 2}); }
TEST(flushed) {
  expect_ranks(Form::bytes8, 20, 200, 16, 3, Sizes{1, 1024, 64, 2});
  expect_ranks(Form::planes, 20, 200, 16, 3, Sizes{1, 1024, 64, 2});
}
TEST(pieces) {
  expect_pieces(Form::bytes8, 18, 90, 130, 24, 4);
  expect_pieces(Form::bytes1, 3, 1, 100, 130, 3);
  expect_pieces(Form::rows, 18, 120, 30, 7, 9);
  expect_pieces(Form::bytes8, 40, 70, 20, 8, 3, Sizes{2, 64, 64, 2});  // queries in groups
}
TEST(many_queries) {  // more than a block has threads
  expect_ranks(Form::bytes8, 300, 3, 2, 2, Sizes{16, 64, 64, 2});
}
TEST(nothing) {
  expect_ranks(Form::bytes8, 3, 0, 16, 4);
  expect_ranks(Form::rows, 0, 5, 16, 4);
}

// By the launchers, and with a histogram that has fewer relevant items than there are.
TEST(as_it_is) {
  Pair pair(3, 100, 16);
  const Labels labels(Form::bytes8, 3, 100, 2, pair.random);
  const auto in = pair.inputs();
  std::vector<int64_t> less(3 * 17 * 2);
  less[1] = less[2 * 17 + 1] = less[4 * 17 + 1] = 2;
  const DeviceArray<int64_t> histogram(less), out(6), found(3);
  const DeviceArray<int64_t> total(9);
  const DeviceArray<char> workspace(static_cast<size_t>(stable_ranks_workspace(in, labels.view())));
  launch_stable_ranks(in, labels.view(), histogram.data(), out.data(), workspace.data(), nullptr);
  launch_stable_precision_sum(in, labels.view(), histogram.data(), nullptr, 100, total.data(), found.data(),
                              workspace.data(), nullptr);
  FINISH();
  for (int64_t i = 0; i < 3; ++i) {
    int64_t relevant = 0;
    for (int64_t j = 0; j < 100; ++j) relevant += labels.relevant(i, j);
    EXPECT(found.read()[size_t(i)] == relevant, "query %d", int(i));
    EXPECT(out.read()[size_t(2 * i)] >= 1 && out.read()[size_t(2 * i)] < out.read()[size_t(2 * i + 1)]);
  }
}

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
