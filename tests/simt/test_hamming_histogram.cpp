// Histograms against counting pair by pair: codes of one word, two, four and more, every form of labels, tiles of one
// query to 32, several pieces to a query, counts that are flushed on the way, ragged and empty.

#include "kernels/cuda/hamming_histogram_kernel.cu"

#include "hamming_labels.h"

namespace {

using namespace hamming_cases;
using namespace rdh::cuda;

// Pieces of 64 items or some more, so that a small gallery has several.
constexpr Sizes small{16, 64, 64, 2};

void expect_histogram(Form form, int64_t queries, int64_t gallery, int64_t bits, int64_t classes,
                      const Sizes& sizes = small, size_t offset = 0) {
  Pair pair(queries, gallery, bits, offset, 40);
  const Labels labels(form, queries, gallery, classes, pair.random);
  const auto in = pair.inputs();
  const auto view = labels.view();
  const DeviceArray<int64_t> out(static_cast<size_t>(queries * (bits + 1) * 2));
  const DeviceArray<char> workspace(static_cast<size_t>(histogram_workspace(in, view, sizes)));
  EXPECT(histogram(in, view, out.data(), workspace.data(), sizes, nullptr) == cudaSuccess);
  FINISH();
  std::vector<int64_t> expected(out.read().size());
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < gallery; ++j) {
      const auto at = static_cast<size_t>((i * (bits + 1) + distance(pair.q, i, pair.g, j)) * 2);
      ++expected[at];
      expected[at + 1] += labels.relevant(i, j);
    }
  }
  EXPECT(out.read() == expected, "%d x %d, %d bits", int(queries), int(gallery), int(bits));
}

TEST(a_word) {
  expect_histogram(Form::bytes8, 33, 300, 32, 9);
  expect_histogram(Form::bytes1, 5, 300, 12, 9, small, 1);
  expect_histogram(Form::planes, 9, 300, 24, 5);
}
TEST(two_words) {
  expect_histogram(Form::bytes2, 33, 200, 64, 3);
  expect_histogram(Form::bytes4, 1, 700, 64, 3, small, 1);
  expect_histogram(Form::rows, 18, 200, 48, 40);
}
TEST(four_words) {
  expect_histogram(Form::bytes8, 17, 300, 128, 4);
  expect_histogram(Form::planes, 3, 300, 65, 33);
}
TEST(many_words) {
  expect_histogram(Form::bytes8, 18, 80, 200, 4);
  expect_histogram(Form::rows, 2, 200, 300, 7, small, 1);
}
TEST(nothing) {
  expect_histogram(Form::bytes8, 3, 0, 16, 4);
  expect_histogram(Form::rows, 0, 5, 16, 4);
}
TEST(chunks_of_planes) { expect_histogram(Form::rows, 2, 4200, 8, 3, Sizes{8, 1024, 512, 2}); }

// One piece with more items at a distance than 16 bits count, all of them relevant.
TEST(counts_of_16_bits) {
  constexpr int64_t queries = 32, gallery = most_flushed_items + 200;
  Pair pair(queries, gallery, 8, 0, 1);
  const Labels labels(Form::bytes1, queries, gallery, 1, pair.random);
  const Sizes sizes{1, gallery, most_flushed_items, 2};
  const DeviceArray<int64_t> out(queries * 9 * 2);
  const DeviceArray<char> workspace(1);
  EXPECT(histogram(pair.inputs(), labels.view(), out.data(), workspace.data(), sizes, nullptr) == cudaSuccess);
  FINISH();
  const auto read = out.read();
  for (int64_t i = 0; i < queries; ++i) {
    const auto at = static_cast<size_t>((i * 9 + distance(pair.q, i, pair.g, 0)) * 2);
    EXPECT(read[at] == gallery && read[at + 1] == gallery, "query %d: %d, %d", int(i), int(read[at]),
           int(read[at + 1]));
  }
}

// What is behind the bits, where codes were not looked at, neither counts nor harms.
TEST(bits_behind_the_last) {
  for (const int64_t bits : {12, 44, 100, 140}) {
    Pair pair(3, 70, bits);
    for (int64_t j = 1; j <= 70; ++j) pair.g.data[static_cast<size_t>(j * pair.g.bytes - 1)] |= 0xF0;
    const DeviceArray<uint8_t> g(pair.g.data);
    auto in = pair.inputs();
    in.g = g.data();
    const Labels labels(Form::bytes1, 3, 70, 2, pair.random);
    const DeviceArray<int64_t> out(static_cast<size_t>(3 * (bits + 1) * 2));
    const DeviceArray<char> workspace(static_cast<size_t>(hamming_histogram_workspace(in, labels.view())));
    launch_hamming_histogram(in, labels.view(), out.data(), workspace.data(), nullptr);
    FINISH();
    int64_t items = 0;
    for (size_t i = 0; i < out.read().size(); i += 2) items += out.read()[i];
    EXPECT(items == 3 * 70, "%d", int(items));
  }
}

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
