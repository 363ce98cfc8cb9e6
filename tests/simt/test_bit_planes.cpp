// Every bit of the planes by the formula of kernels/hamming.h, those behind the last item included.

#include "kernels/cuda/bit_planes_kernel.cu"

#include "hamming_cases.h"

namespace {

using namespace hamming_cases;

void expect_planes(int64_t rows, int64_t bits, size_t offset = 0) {
  Random random(static_cast<unsigned>(rows + bits));
  const Codes codes(rows, bits, random);
  const DeviceArray<uint8_t> memory(codes.data, offset);
  const DeviceArray<uint64_t> planes(static_cast<size_t>(rdh::plane_words(rows, bits)));
  EXPECT(rdh::cuda::launch_bit_planes(memory.data(), rows, codes.bytes, bits, planes.data(), nullptr) == cudaSuccess);
  FINISH();
  const std::vector<uint64_t> words = planes.read();
  for (int64_t i = 0; i < rdh::chunks_of(rows) * rdh::chunk_items; ++i) {
    for (int64_t k = 0; k < bits; ++k) {
      const uint64_t word = words[size_t(((8 * (i / 4096) + i / 64 % 8) * bits + k) * 8 + i / 512 % 8)];
      const bool bit = word >> i % 64 & 1, expected = i < rows && codes.bit(i, k);
      EXPECT(bit == expected, "item %d, bit %d", int(i), int(k));
    }
  }
}

TEST(two_chunks) { expect_planes(4500, 33); }
TEST(whole_words) { expect_planes(100, 64); }
TEST(bytes) { expect_planes(600, 70, 1); }
TEST(one) { expect_planes(1, 1); }
TEST(none) { expect_planes(0, 8); }

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
