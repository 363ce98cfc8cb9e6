// Packing against comparisons with 0, element by element: every type, whole loads and single ones, ragged and empty.

#include "kernels/cuda/pack_codes_kernel.cu"

#include <cmath>
#include <random>

#include "harness.h"

namespace {

using harness::DeviceArray;
using namespace rdh;

template <class T>
void expect_packed(Element element, int64_t rows, int64_t bits, size_t offset = 0) {
  std::mt19937 random(static_cast<unsigned>(rows + bits));
  const float special[] = {0.0f, -0.0f, NAN, -NAN, INFINITY, -INFINITY, 1e-7f, -1e-7f};
  std::vector<float> values(static_cast<size_t>(rows * bits));
  std::vector<T> h;
  for (float& v : values) {
    v = random() % 4 == 0 ? special[random() % 8] : static_cast<float>(random() % 100) - 50;
    h.push_back(static_cast<T>(v));
  }
  const int64_t bytes = (bits + 7) / 8;
  const DeviceArray<T> memory(h, offset);
  const DeviceArray<uint8_t> codes(static_cast<size_t>(rows * bytes));
  EXPECT(cuda::launch_pack_codes(element, memory.data(), rows, bits, codes.data(), nullptr) == cudaSuccess);
  FINISH();
  const std::vector<uint8_t> packed = codes.read();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < 8 * bytes; ++k) {
      const bool expected = k < bits && values[static_cast<size_t>(i * bits + k)] >= 0;
      const bool bit = packed[static_cast<size_t>(i * bytes + k / 8)] >> k % 8 & 1;
      EXPECT(bit == expected, "row %d, bit %d of %d", int(i), int(k), int(bits));
    }
  }
}

template <class T>
void both_ways(Element element) {
  expect_packed<T>(element, 30, 64);
  expect_packed<T>(element, 70, 37);
}

TEST(float32) { both_ways<float>(Element::f32); }
TEST(float64) { both_ways<double>(Element::f64); }
TEST(bfloat16) { both_ways<__nv_bfloat16>(Element::bf16); }
TEST(float16) { both_ways<__half>(Element::f16); }
TEST(several_blocks) {
  expect_packed<float>(Element::f32, 300, 64);
  expect_packed<float>(Element::f32, 3, 4096);
}
TEST(not_aligned) { expect_packed<float>(Element::f32, 3, 8, 1); }
TEST(one) { expect_packed<float>(Element::f32, 1, 1); }
TEST(none) { expect_packed<float>(Element::f32, 0, 12); }

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
