// What the simulator says an intrinsic does, against a plain reference; on a device, against the device.

#include <cuda_runtime.h>

#include <algorithm>
#include <random>

#include "common/cuda_kernel.h"
#include "harness.h"

namespace {

using harness::DeviceArray;

constexpr unsigned full = 0xFFFFFFFFu;
constexpr int warp = 32;

// Runs a kernel of one warp that gives every lane `Results` words of its input word.
template <auto Kernel, int Results>
std::vector<unsigned> on_a_warp(const std::vector<unsigned>& in) {
  const DeviceArray<unsigned> in_(in), out(in.size() * Results);
  LAUNCH(Kernel, 1, warp, 0, nullptr, in_.data(), out.data());
  FINISH();
  return out.read();
}

std::vector<unsigned> words() {
  std::mt19937 random(3);
  std::vector<unsigned> values = {0, 1, 2, 3, 0x80000000u, 0x7FFFFFFFu, full, 0x00010000u, 0x80000001u};
  while (values.size() < warp) values.push_back(random() >> random() % 32);
  return values;
}

// --- integers --------------------------------------------------------------------------------------------------------

__global__ void integer_kernel(const unsigned* in, unsigned* out) {
  const unsigned x = in[threadIdx.x];
  const unsigned long long wide = static_cast<unsigned long long>(x) << 13;
  unsigned* const r = out + threadIdx.x * 9;
  r[0] = __popc(x);
  r[1] = __popcll(wide);
  r[2] = __clz(static_cast<int>(x));
  r[3] = __clzll(static_cast<long long>(wide));
  r[4] = __ffs(static_cast<int>(x));
  r[5] = __ffsll(static_cast<long long>(wide));
  r[6] = __brev(x);
  r[7] = __umulhi(x, 0xDEADBEEFu);
  r[8] = __float_as_uint(__uint_as_float(x & 0x7F7FFFFFu)) + static_cast<unsigned>(__ldg(in));
}

TEST(integers) {
  const std::vector<unsigned> in = words(), out = on_a_warp<integer_kernel, 9>(in);
  for (size_t i = 0; i < in.size(); ++i) {
    const unsigned x = in[i];
    unsigned ones = 0, first = 0, zeros = 32, reversed = 0;
    for (unsigned k = 0; k < 32; ++k) {
      if ((x >> k & 1) == 0) continue;
      ++ones;
      if (first == 0) first = k + 1;
      zeros = 31 - k;
      reversed |= 1u << (31 - k);
    }
    const unsigned expected[] = {ones,           ones,
                                 zeros,          x == 0 ? 64 : zeros + 19,
                                 first,          x == 0 ? 0 : first + 13,
                                 reversed,       static_cast<unsigned>(uint64_t{x} * 0xDEADBEEFu >> 32),
                                 x & 0x7F7FFFFFu};
    for (size_t k = 0; k < 9; ++k)
      EXPECT(out[i * 9 + k] == expected[k], "result %zu of %08x: %u", k, x, out[i * 9 + k]);
  }
}

__global__ void dot_kernel(const unsigned* in, unsigned* out) {
  const unsigned x = in[threadIdx.x], y = in[31 - threadIdx.x];
  out[threadIdx.x * 2] = static_cast<unsigned>(__dp4a(static_cast<int>(x), static_cast<int>(y), -7));
  out[threadIdx.x * 2 + 1] = __dp4a(x, y, 7u);
}

TEST(products_of_bytes) {
  const std::vector<unsigned> in = words(), out = on_a_warp<dot_kernel, 2>(in);
  for (size_t i = 0; i < in.size(); ++i) {
    int sum = -7;
    unsigned unsigned_sum = 7;
    for (int k = 0; k < 32; k += 8) {
      const uint8_t a = static_cast<uint8_t>(in[i] >> k), b = static_cast<uint8_t>(in[31 - i] >> k);
      sum += static_cast<int8_t>(a) * static_cast<int8_t>(b);
      unsigned_sum += unsigned{a} * b;
    }
    EXPECT(out[2 * i] == static_cast<unsigned>(sum) && out[2 * i + 1] == unsigned_sum, "lane %zu", i);
  }
}

// --- warps -----------------------------------------------------------------------------------------------------------

template <int Width>
__global__ void shuffle_kernel(const unsigned* in, unsigned* out) {
  const unsigned x = in[threadIdx.x];
  unsigned* const r = out + threadIdx.x * 4;
  r[0] = __shfl_sync(full, x, 5, Width);
  r[1] = __shfl_up_sync(full, x, 3, Width);
  r[2] = __shfl_down_sync(full, x, 3, Width);
  r[3] = __shfl_xor_sync(full, x, 9, Width);
}

template <int Width>
void shuffle() {
  const std::vector<unsigned> in = words(), out = on_a_warp<shuffle_kernel<Width>, 4>(in);
  for (int i = 0; i < warp; ++i) {
    const int first = i / Width * Width, end = first + Width;
    const int from[] = {first + 5 % Width, i - 3 < first ? i : i - 3, i + 3 >= end ? i : i + 3,
                        (i ^ 9) >= end ? i : i ^ 9};
    for (int k = 0; k < 4; ++k) EXPECT(out[i * 4 + k] == in[from[k]], "width %d, lane %d, result %d", Width, i, k);
  }
}
TEST(shuffles) {
  shuffle<32>();
  shuffle<16>();
  shuffle<4>();
}

__global__ void vote_kernel(const unsigned* in, unsigned* out) {
  const unsigned x = in[threadIdx.x];
  unsigned* const r = out + threadIdx.x * 5;
  const bool low = threadIdx.x < 20;
  const unsigned mask = low ? 0xFFFFFu : ~0xFFFFFu;  // the two parts meet on their own
  r[0] = __ballot_sync(mask, x % 2);
  r[1] = __any_sync(mask, x == 1);
  r[2] = __all_sync(mask, x < 0xFFFFFFFFu);
  r[3] = __match_any_sync(mask, x % 4);
  r[4] = __syncthreads_count(x % 2) * 4 + (__syncthreads_or(x == 3) != 0) * 2 + (__syncthreads_and(x == 3) != 0);
}

TEST(votes) {
  const std::vector<unsigned> in = words(), out = on_a_warp<vote_kernel, 5>(in);
  for (unsigned i = 0; i < warp; ++i) {
    const unsigned begin = i < 20 ? 0 : 20, end = i < 20 ? 20 : 32;
    unsigned ballot = 0, any = 0, all = 1, equal = 0, odd = 0;
    for (unsigned k = begin; k < end; ++k) {
      ballot |= (in[k] % 2) << k;
      any |= in[k] == 1;
      all &= in[k] < full;
      equal |= (in[k] % 4 == in[i] % 4 ? 1u : 0u) << k;
    }
    for (const unsigned x : in) odd += x % 2;
    const unsigned expected[] = {ballot, any, all, equal, odd * 4 + 2};
    for (unsigned k = 0; k < 5; ++k)
      EXPECT(out[i * 5 + k] == expected[k], "lane %u, vote %u: %08x", i, k, out[i * 5 + k]);
  }
}

__global__ void reduce_kernel(const unsigned* in, unsigned* out) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  const unsigned x = in[threadIdx.x], mask = threadIdx.x < 20 ? 0xFFFFFu : ~0xFFFFFu;
  unsigned* const r = out + threadIdx.x * 8;
  r[0] = __reduce_add_sync(mask, x);
  r[1] = __reduce_min_sync(mask, x);
  r[2] = __reduce_max_sync(mask, x);
  r[3] = __reduce_and_sync(mask, x);
  r[4] = __reduce_or_sync(mask, x);
  r[5] = __reduce_xor_sync(mask, x);
  r[6] = static_cast<unsigned>(__reduce_min_sync(mask, static_cast<int>(x)));
  r[7] = static_cast<unsigned>(__reduce_max_sync(mask, static_cast<int>(x)));
#endif
}

TEST(reductions) {
  NEEDS_CAPABILITY(800);
  const std::vector<unsigned> in = words(), out = on_a_warp<reduce_kernel, 8>(in);
  for (unsigned i = 0; i < warp; ++i) {
    const auto begin = in.begin() + (i < 20 ? 0 : 20), end = in.begin() + (i < 20 ? 20 : 32);
    const auto as_int = [](unsigned a, unsigned b) { return static_cast<int>(a) < static_cast<int>(b); };
    unsigned expected[] = {0, *std::min_element(begin, end),         *std::max_element(begin, end),        full, 0,
                           0, *std::min_element(begin, end, as_int), *std::max_element(begin, end, as_int)};
    for (auto x = begin; x != end; ++x) {
      expected[0] += *x;
      expected[3] &= *x;
      expected[4] |= *x;
      expected[5] ^= *x;
    }
    for (unsigned k = 0; k < 8; ++k) EXPECT(out[i * 8 + k] == expected[k], "lane %u, reduction %u", i, k);
  }
}

// --- atomics ---------------------------------------------------------------------------------------------------------

__global__ void atomic_kernel(const unsigned* in, unsigned* out) {
  const unsigned x = in[threadIdx.x];
  atomicAdd(out, x);
  atomicSub(out + 1, x);
  atomicMin(out + 2, x);
  atomicMax(out + 3, x);
  atomicAnd(out + 4, x);
  atomicOr(out + 5, x);
  atomicXor(out + 6, x);
  atomicInc(out + 7, 20u);
  const unsigned before = atomicExch(out + 8, threadIdx.x);  // the value 100 is handed to one lane
  if (before == 100) atomicCAS(out + 9, 7u, 8u);
  atomicAdd(reinterpret_cast<float*>(out + 10), 0.5f);
  atomicAdd(reinterpret_cast<unsigned long long*>(out + 12), 1ull << 31);
  atomicAdd(reinterpret_cast<double*>(out + 14), 0.25);
}

TEST(atomics) {
  const std::vector<unsigned> in = words();
  std::vector<unsigned> expected = {0, 0, full, 0, full, 0, 0, 0, 100, 7, 0, 0, 0, 0, 0, 0};
  const DeviceArray<unsigned> in_(in), out(expected);
  LAUNCH(atomic_kernel, 1, warp, 0, nullptr, in_.data(), out.data());
  FINISH();
  const std::vector<unsigned> got = out.read();
  for (const unsigned x : in) {
    expected[0] += x;
    expected[1] -= x;
    expected[2] = std::min(expected[2], x);
    expected[3] = std::max(expected[3], x);
    expected[4] &= x;
    expected[5] |= x;
    expected[6] ^= x;
  }
  expected[7] = 32 - 21;
  expected[9] = 8;
  const float sum = 16;
  const double wide_sum = 8;
  std::memcpy(&expected[10], &sum, sizeof sum);
  expected[13] = 16;
  std::memcpy(&expected[14], &wide_sum, sizeof wide_sum);
  EXPECT(got[8] < warp);
  expected[8] = got[8];  // whoever came last
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT(got[i] == expected[i], "word %zu: %08x, not %08x", i, got[i], expected[i]);
}

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
