// Nearest codes against a stable sort of all distances: codes of one word, two, four and more, tiles of one query to
// 32, several pieces and several groups of queries, k from 1 to all, ragged and empty.

#include "kernels/cuda/hamming_topk_kernel.cu"

#include <numeric>

#include "hamming_cases.h"

namespace {

using namespace hamming_cases;
using namespace rdh::cuda;

constexpr Sizes small{16, 64, 64, 2};

void expect_nearest(int64_t queries, int64_t gallery, int64_t bits, int64_t k, const Sizes& sizes = small,
                    size_t offset = 0) {
  const Pair pair(queries, gallery, bits, offset, 30);
  const auto in = pair.inputs();
  const auto count = static_cast<size_t>(queries * k);
  const DeviceArray<int16_t> distances(count);
  const DeviceArray<int64_t> indices(count);
  const DeviceArray<char> workspace(static_cast<size_t>(topk_workspace(in, sizes)));
  EXPECT(topk(in, k, distances.data(), indices.data(), workspace.data(), sizes, nullptr) == cudaSuccess);
  FINISH();
  const auto d = distances.read();
  const auto items = indices.read();
  for (int64_t i = 0; i < queries; ++i) {
    std::vector<int64_t> order(static_cast<size_t>(gallery));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return distance(pair.q, i, pair.g, a) < distance(pair.q, i, pair.g, b);
    });
    for (int64_t n = 0; n < k; ++n) {
      const auto at = static_cast<size_t>(i * k + n);
      const int64_t item = order[static_cast<size_t>(n)];
      EXPECT(items[at] == item && d[at] == distance(pair.q, i, pair.g, item), "query %d, place %d: %d, %d", int(i),
             int(n), int(items[at]), int(d[at]));
    }
  }
}

TEST(a_word) {
  expect_nearest(33, 200, 32, 20);
  expect_nearest(5, 300, 7, 300, small, 1);
}
TEST(two_words) {
  expect_nearest(18, 200, 64, 1);
  expect_nearest(1, 700, 64, 130);
  expect_nearest(3, 300, 40, 299);
}
TEST(four_words) {
  expect_nearest(18, 150, 128, 150);
  expect_nearest(3, 300, 65, 9, small, 1);
}
TEST(many_words) {
  expect_nearest(18, 80, 200, 31);
  expect_nearest(2, 200, 300, 200);
}
// Two tiles at a time, and a tile whose counts are flushed on the way.
TEST(groups_of_queries) { expect_nearest(140, 70, 16, 11, Sizes{2, 64, 64, 2}); }
TEST(flushed) { expect_nearest(20, 200, 16, 200, Sizes{1, 1024, 64, 2}); }
TEST(as_it_is) {
  const Pair pair(3, 100, 16);
  const DeviceArray<int16_t> distances(3);
  const DeviceArray<int64_t> indices(3);
  const DeviceArray<char> workspace(static_cast<size_t>(hamming_topk_workspace(pair.inputs(), 1)));
  launch_hamming_topk(pair.inputs(), 1, distances.data(), indices.data(), workspace.data(), nullptr);
  FINISH();
  for (int64_t i = 0; i < 3; ++i) {
    const int d = distances.read()[size_t(i)];
    EXPECT(d == distance(pair.q, i, pair.g, indices.read()[size_t(i)]), "%d", d);
  }
}
// Every item is in one piece, pieces begin at multiples of 64, streams have fewer items than 32 bits count, and the
// workspace stays in its bounds: for sizes that no test can run.
TEST(partitions) {
  for (const int64_t queries : {1, 2, 3, 17, 33, 65, 10'000, 3'000'000}) {
    for (const int64_t gallery :
         {int64_t{1}, int64_t{1000}, int64_t{59'000}, int64_t{1} << 31, (int64_t{1} << 32) + 5, int64_t{1} << 35}) {
      for (const int64_t bits : {8, 64, 4096}) {
        const rdh::HammingInputs in{nullptr, nullptr, nullptr, queries, gallery, bits / 8, bits};
        const Partition p = partition_of(queries, gallery, usual_sizes(in));
        const int64_t stream = p.slabs * p.length;
        EXPECT(p.tile * p.streams == 32 && 1 << p.shift == p.streams && p.length / 64 * 64 == p.length);
        EXPECT(p.tile * p.tiles >= queries && p.tile * (p.tiles - 1) < queries);
        EXPECT(p.streams * stream >= gallery && stream - p.length < gallery && stream < int64_t{1} << 32);
        const int64_t words = bits > 128 ? queries * bits / 8 : 0;
        const int64_t bytes = hamming_topk_workspace(in, 1) - words;
        EXPECT(bytes <= 3 * most_count_bytes + 10'000, "%lld", static_cast<long long>(bytes));
      }
    }
  }
  const rdh::HammingInputs beyond{nullptr, nullptr, nullptr, 1, most_counted_items + 1, 1, 8};
  EXPECT(launch_hamming_topk(beyond, 1, nullptr, nullptr, nullptr, nullptr) == cudaErrorInvalidValue);
}

TEST(nothing) {
  expect_nearest(0, 5, 64, 2);
  expect_nearest(5, 0, 64, 0);
}

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
