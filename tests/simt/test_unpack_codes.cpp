// Signs of packed bits, one by one: four to a store and single ones, ragged and empty.

#include "kernels/cuda/unpack_codes_kernel.cu"

#include "hamming_cases.h"

namespace {

using namespace hamming_cases;

void expect_signs(int64_t rows, int64_t bits, size_t offset = 0) {
  Random random(static_cast<unsigned>(rows + bits));
  const Codes codes(rows, bits, random);
  const DeviceArray<uint8_t> memory(codes.data, 1);
  const DeviceArray<float> signs(static_cast<size_t>(rows * bits), offset);
  EXPECT(rdh::cuda::launch_unpack_codes(memory.data(), rows, bits, signs.data(), nullptr) == cudaSuccess);
  FINISH();
  const std::vector<float> read = signs.read();
  for (int64_t i = 0; i < rows * bits; ++i) {
    const float expected = codes.bit(i / bits, i % bits) ? 1.0f : -1.0f;
    EXPECT(read[static_cast<size_t>(i)] == expected, "%d of %d bits", int(i), int(bits));
  }
}

TEST(four_at_a_time) {
  expect_signs(100, 64);
  expect_signs(70, 12);
  expect_signs(1, 4096);
}
TEST(one_at_a_time) {
  expect_signs(30, 64, 1);
  expect_signs(41, 37);
  expect_signs(1, 1);
  expect_signs(0, 9);
}

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
