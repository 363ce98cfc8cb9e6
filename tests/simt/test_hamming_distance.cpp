// All distances, pair by pair: every width of codes, aligned and not, several blocks both ways, ragged and empty.

#include "kernels/cuda/hamming_distance_kernel.cu"

#include "hamming_cases.h"

namespace {

using namespace hamming_cases;

void expect_distances(int64_t queries, int64_t gallery, int64_t bits, size_t offset = 0) {
  const Pair pair(queries, gallery, bits, offset);
  const DeviceArray<int16_t> out(static_cast<size_t>(queries * gallery));
  EXPECT(rdh::cuda::launch_hamming_distance(pair.inputs(), out.data(), nullptr) == cudaSuccess);
  FINISH();
  const std::vector<int16_t> read = out.read();
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < gallery; ++j) {
      const int d = read[static_cast<size_t>(i * gallery + j)];
      EXPECT(d == distance(pair.q, i, pair.g, j), "(%d, %d): %d", int(i), int(j), d);
    }
  }
}

TEST(a_word) {
  expect_distances(3, 600, 32);
  expect_distances(3, 70, 32, 1);
  expect_distances(3, 70, 24);
  expect_distances(1, 1, 1);
}
TEST(two_words) {
  expect_distances(67, 530, 64);
  expect_distances(3, 70, 64, 1);
  expect_distances(3, 70, 48);
}
TEST(four_words) {
  expect_distances(3, 70, 128);
  expect_distances(3, 70, 128, 4);
  expect_distances(3, 70, 65);
}
TEST(many_words) {
  expect_distances(9, 130, 4096);
  expect_distances(9, 130, 768, 1);
  expect_distances(8, 128, 130);
}
TEST(nothing) {
  expect_distances(0, 5, 64);
  expect_distances(5, 0, 64);
}

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
