// Each wrapper of common/ptx.cuh, on the device and in its host form, against the same plain reference.

#include <cuda_runtime.h>

#include <random>

#include "common/cuda_kernel.h"
#include "common/ptx.cuh"
#include "harness.h"

namespace {

using harness::DeviceArray;
namespace ptx = rdh::cuda::ptx;

enum class Kind { bf16, tf32, s8, b1 };

template <Kind kind>
constexpr int per_register = kind == Kind::bf16   ? 2
                             : kind == Kind::tf32 ? 1
                             : kind == Kind::s8   ? 4
                                                  : 32;

template <Kind kind>
using Sum = std::conditional_t<kind == Kind::bf16 || kind == Kind::tf32, float, int32_t>;

// A [16, 8 words' worth], B^T [8, 8 words' worth], d [16, 8], as 32-bit words of elements: one warp, one product.
template <Kind kind, int Threads>
__global__ void __launch_bounds__(Threads) product_kernel(const uint32_t* a, const uint32_t* b, Sum<kind>* d) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  uint32_t left[4], right[2];
  for (int i = 0; i < 4; ++i) left[i] = a[(g + 8 * (i % 2)) * 8 + t + 4 * (i / 2)];
  for (int i = 0; i < 2; ++i) right[i] = b[g * 8 + t + 4 * i];
  Sum<kind> sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2];
  if constexpr (kind == Kind::bf16) ptx::mma_bf16(sums, left, right);
  if constexpr (kind == Kind::tf32) ptx::mma_tf32(sums, left, right);
  if constexpr (kind == Kind::s8) ptx::mma_s8(sums, left, right);
  if constexpr (kind == Kind::b1) ptx::mma_b1_and(sums, left, right);
  for (int i = 0; i < 4; ++i) d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sums[i];
}

template <Kind kind>
double element(uint32_t word, int at) {
  if (kind == Kind::b1) return word >> at & 1;
  if (kind == Kind::s8) return static_cast<int8_t>(word >> 8 * at);
  const uint32_t bits = kind == Kind::tf32 ? word & 0xFFFFE000u : at == 0 ? word << 16 : word & 0xFFFF0000u;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <Kind kind>
void product() {
  NEEDS_CAPABILITY(800);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 1);
  const auto word = [&]() -> uint32_t {
    if (kind == Kind::b1 || kind == Kind::s8) return random();
    const float value = normal(random), other = normal(random);
    uint32_t bits, other_bits;
    std::memcpy(&bits, &value, sizeof bits);
    std::memcpy(&other_bits, &other, sizeof bits);
    return kind == Kind::tf32 ? bits : (bits & 0xFFFF0000u) | other_bits >> 16;
  };
  std::vector<uint32_t> a(16 * 8), b(8 * 8);
  for (uint32_t& w : a) w = word();
  for (uint32_t& w : b) w = word();
  std::vector<Sum<kind>> before(16 * 8);
  for (size_t i = 0; i < before.size(); ++i) before[i] = static_cast<Sum<kind>>(static_cast<int>(i) - 60);
  const DeviceArray<uint32_t> a_(a), b_(b);
  const DeviceArray<Sum<kind>> d_(before);
  LAUNCH((product_kernel<kind, 32>), 1, 32, 0, nullptr, a_.data(), b_.data(), d_.data());
  FINISH();
  const std::vector<Sum<kind>> d = d_.read();
  for (size_t i = 0; i < d.size(); ++i) {
    double sum = before[i], size = std::fabs(sum);
    for (int k = 0; k < 8 * per_register<kind>; ++k) {
      const int at = k % per_register<kind>;
      const double term = element<kind>(a[i / 8 * 8 + k / per_register<kind>], at) *
                          element<kind>(b[i % 8 * 8 + k / per_register<kind>], at);
      sum += term;
      size += std::fabs(term);
    }
    const double tolerance = std::is_integral_v<Sum<kind>> ? 0 : size * 4e-7 * per_register<kind>;
    EXPECT(std::fabs(d[i] - sum) <= tolerance, "place %zu: %g, not %g", i, double(d[i]), sum);
  }
}

TEST(mma_bf16) { product<Kind::bf16>(); }
TEST(mma_tf32) { product<Kind::tf32>(); }
TEST(mma_s8) { product<Kind::s8>(); }
TEST(mma_b1_and) { product<Kind::b1>(); }

template <bool Transposed, int Threads>
__global__ void __launch_bounds__(Threads) ldmatrix_kernel(const uint16_t* in, uint32_t* out) {
  SHARED(uint4, rows, [32]);
  for (int i = 0; i < 8; ++i) reinterpret_cast<uint16_t*>(&rows[threadIdx.x])[i] = in[threadIdx.x * 8 + i];
  __syncwarp();
  uint32_t r[4];
  ptx::ldmatrix_x4<Transposed>(r, &rows[threadIdx.x]);
  for (int i = 0; i < 4; ++i) out[i * 32 + threadIdx.x] = r[i];
}

template <bool Transposed>
void load_matrices() {
  std::vector<uint16_t> in(4 * 8 * 8);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint16_t>(257 * i);
  const DeviceArray<uint16_t> in_(in);
  const DeviceArray<uint32_t> out_(4 * 32);
  LAUNCH((ldmatrix_kernel<Transposed, 32>), 1, 32, 0, nullptr, in_.data(), out_.data());
  FINISH();
  const std::vector<uint32_t> out = out_.read();
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t matrix = i / 32, g = i % 32 / 4, t = i % 4;
    const auto at = [&](size_t row, size_t column) { return uint32_t{in[matrix * 64 + row * 8 + column]}; };
    const uint32_t low = Transposed ? at(2 * t, g) : at(g, 2 * t);
    const uint32_t high = Transposed ? at(2 * t + 1, g) : at(g, 2 * t + 1);
    EXPECT(out[i] == (low | high << 16), "register %zu of lane %zu", matrix, i % 32);
  }
}

TEST(ldmatrix_x4) { load_matrices<false>(); }
TEST(ldmatrix_x4_transposed) { load_matrices<true>(); }

// Two groups on their way at once; of the last piece only `valid` bytes exist.
template <int Bytes, int Threads>
__global__ void __launch_bounds__(Threads) copy_kernel(const char* in, char* out, int valid) {
  SHARED(uint4, buffer, [2 * Threads]);
  char* const mine = reinterpret_cast<char*>(buffer) + threadIdx.x * Bytes;
  char* const next = mine + Threads * Bytes;
  ptx::cp_async<Bytes>(mine, in + threadIdx.x * Bytes);
  ptx::cp_async_commit();
  ptx::cp_async<Bytes>(next, in + (Threads + threadIdx.x) * Bytes, threadIdx.x + 1 == Threads ? valid : Bytes);
  ptx::cp_async_commit();
  ptx::cp_async_wait<1>();
  for (int i = 0; i < Bytes; ++i) out[threadIdx.x * Bytes + i] = mine[i];
  ptx::cp_async_wait<0>();
  for (int i = 0; i < Bytes; ++i) out[(Threads + threadIdx.x) * Bytes + i] = next[i];
}

template <int Bytes>
void copy() {
  for (const int valid : {0, 1, Bytes - 1, Bytes}) {
    std::vector<char> in(64 * Bytes);
    for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<char>(i * 7 + 1);
    const DeviceArray<char> in_(in), out_(in.size());
    LAUNCH((copy_kernel<Bytes, 32>), 1, 32, 0, nullptr, in_.data(), out_.data(), valid);
    FINISH();
    for (int i = valid; i < Bytes; ++i) in[63 * Bytes + static_cast<size_t>(i)] = 0;
    EXPECT(out_.read() == in, "%d bytes, %d valid", Bytes, valid);
  }
}

TEST(cp_async_4) { copy<4>(); }
TEST(cp_async_8) { copy<8>(); }
TEST(cp_async_16) { copy<16>(); }

// out [n, 2]: 2^x and 1 / x
template <int Threads>
__global__ void __launch_bounds__(Threads) approximate_kernel(const float* x, float* out) {
  out[2 * threadIdx.x] = ptx::ex2_approx(x[threadIdx.x]);
  out[2 * threadIdx.x + 1] = ptx::rcp_approx(x[threadIdx.x]);
}

TEST(approximations) {
  std::vector<float> x = {0.0f, -0.0f, 1.0f, -1.0f, 127.5f, -125.5f, -127.5f, -400.0f, 400.0f, 1e-40f, 3e38f};
  for (const float special : {INFINITY, -INFINITY, NAN}) x.push_back(special);
  while (x.size() < 256) x.push_back(static_cast<float>(x.size()) * 0.7137f - 125.0f);
  const DeviceArray<float> x_(x), out_(2 * x.size());
  LAUNCH((approximate_kernel<256>), 1, 256, 0, nullptr, x_.data(), out_.data());
  FINISH();
  const std::vector<float> out = out_.read();
  const auto flushed = [](double v) { return std::fabs(v) < 0x1p-126 ? std::copysign(0.0, v) : v; };
  for (size_t i = 0; i < x.size(); ++i) {
    const double in = flushed(x[i]), true_values[] = {flushed(std::exp2(in)), flushed(1 / in)};
    for (size_t j = 0; j < 2; ++j) {
      const double true_value = true_values[j], got = out[2 * i + j], allowed = j == 0 ? 0x1p-22 : 0x1p-23;
      const bool same = std::isnan(true_value) ? std::isnan(got)
                        : std::isinf(true_value) || std::fabs(true_value) > 3.4e38
                            ? got == static_cast<float>(true_value)
                            : std::fabs(got - true_value) <= allowed * std::fabs(true_value);
      EXPECT(same, "%s %g: %.9g, not %.9g", j == 0 ? "2^" : "1 /", double(x[i]), got, true_value);
    }
  }
}

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
