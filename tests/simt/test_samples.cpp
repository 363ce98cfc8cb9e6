// The sample kernels are right, whatever the order of threads and blocks.

#include "samples.cuh"

#include <algorithm>
#include <random>

#include "harness.h"

namespace {

using harness::DeviceArray;

template <int Threads>
void histogram(int64_t n, int bins, unsigned blocks) {
  std::mt19937 random(7);
  std::vector<uint8_t> keys(static_cast<size_t>(n));
  std::vector<unsigned long long> expected(static_cast<size_t>(bins), 0);
  for (uint8_t& key : keys) {
    key = static_cast<uint8_t>(random() % static_cast<unsigned>(bins));
    ++expected[key];
  }
  const DeviceArray<uint8_t> keys_(keys);
  const DeviceArray<unsigned long long> counts(std::vector<unsigned long long>(expected.size(), 0));
  LAUNCH((samples::histogram_kernel<Threads>), blocks, Threads, static_cast<size_t>(bins) * sizeof(unsigned), nullptr,
         keys_.data(), n, bins, counts.data());
  FINISH();
  EXPECT(counts.read() == expected, "%ld keys, %d bins", static_cast<long>(n), bins);
}

TEST(histogram) {
  histogram<64>(0, 5, 1);
  histogram<64>(1, 1, 1);
  histogram<64>(501, 65, 3);
  histogram<32>(77, 129, 2);
}

template <int Threads>
void sum(int64_t n, unsigned blocks) {
  std::vector<float> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) - 5;
  float expected = 0;
  for (const float v : x) expected += v;  // small integers: exact in any order
  const DeviceArray<float> x_(x), partials(blocks), total(1);
  const DeviceArray<unsigned> ticket(std::vector<unsigned>(1, 0));
  LAUNCH((samples::sum_kernel<Threads>), blocks, Threads, 0, nullptr, x_.data(), n, partials.data(), ticket.data(),
         total.data());
  FINISH();
  EXPECT(total.read()[0] == expected, "%ld numbers: %g, not %g", static_cast<long>(n), double(total.read()[0]),
         double(expected));
  EXPECT(ticket.read()[0] == 0);
}

TEST(sum) {
  sum<32>(0, 1);
  sum<32>(1, 1);
  sum<64>(1003, 3);
  sum<128>(1000, 5);
}

template <int Threads>
void neighbours(int rows, int tiles) {
  const size_t width = Threads * 4, row = width * static_cast<size_t>(tiles);
  std::vector<float> x(static_cast<size_t>(rows) * row), expected(static_cast<size_t>(rows) * width, 0);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 11);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t start = i / width * width, place = i % width;
    expected[i / row * width + place] += x[i] * x[start + (place + 4) % width];
  }
  std::vector<float4> packed(x.size() / 4);
  if (!x.empty()) std::memcpy(packed.data(), x.data(), x.size() * sizeof(float));
  const DeviceArray<float4> x_(packed), out(expected.size() / 4);
  LAUNCH((samples::neighbours_kernel<Threads>), static_cast<unsigned>(rows), Threads, 0, nullptr, x_.data(), tiles,
         out.data());
  FINISH();
  std::vector<float> got(expected.size());
  std::memcpy(got.data(), out.read().data(), got.size() * sizeof(float));
  EXPECT(got == expected, "%d rows of %d tiles", rows, tiles);
}

TEST(neighbours) {
  neighbours<32>(1, 0);
  neighbours<32>(1, 1);
  neighbours<64>(2, 5);
}

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
