// Every PTX instruction of the package, and beside each what it does on the host, written from its description in the
// PTX ISA, for the simulator of tests/simt. tests/simt/test_ptx.cpp holds both to the same plain reference.
//
// Approximations: ex2_approx is 2^x within 2^-22 of its size, rcp_approx 1 / x within 2^-23; results below 2^-126 and
// arguments that small are 0.
//
// Copies of 4, 8 or 16 bytes into shared memory that go on while the thread does: sm_80; before, they are plain copies.
// Matrix instructions: sm_80; older devices must not be sent there. Fragments are the registers of the instruction.
// With E elements to a register, g = lane / 4 and t = lane % 4: register i of A [16, 8 E] holds row g + 8 (i % 2),
// columns from E (t + 4 (i / 2)); register i of B [8 E, 8] holds rows from E (t + 4 i) of column g; d[i] of D [16, 8]
// is row g + 8 (i / 2), column 2 t + i % 2.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace rdh::cuda::ptx {

#if defined(__CUDACC__)

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define RDH_PTX_SM80 1
#else
#define RDH_PTX_SM80 0
#endif

__device__ __forceinline__ unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ float ex2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float rcp_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// `valid` bytes are copied, the rest up to Bytes is set to 0. Both addresses are multiples of Bytes, also where nothing
// is valid.
template <int Bytes>
__device__ __forceinline__ void cp_async(void* shared, const void* global, int valid = Bytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
#if RDH_PTX_SM80
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global), "n"(Bytes),
                 "r"(valid)
                 : "memory");
  }
#else
  const char* from = static_cast<const char*>(global);
  char* to = static_cast<char*>(shared);
  for (int i = 0; i < Bytes; ++i) to[i] = i < valid ? from[i] : char{0};
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#if RDH_PTX_SM80
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Until all but the last `InFlight` groups that this thread committed have landed. Other threads need a barrier, too.
template <int InFlight>
__device__ __forceinline__ void cp_async_wait() {
#if RDH_PTX_SM80
  asm volatile("cp.async.wait_group %0;" ::"n"(InFlight) : "memory");
#endif
}

// Four 8 x 8 matrices of 16-bit elements: lane l brings the address of row l % 8 of matrix l / 8, and gets of matrix i
// in r[i] the elements (g, 2 t) and (g, 2 t + 1); transposed, (2 t, g) and (2 t + 1, g).
template <bool Transposed>
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
}

#if RDH_PTX_SM80
#define RDH_PTX_MMA(name, instruction, D, constraint)                                                     \
  __device__ __forceinline__ void name(D(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) {          \
    asm volatile(instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"           \
                 : "+" constraint(d[0]), "+" constraint(d[1]), "+" constraint(d[2]), "+" constraint(d[3]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                     \
  }
#else
#define RDH_PTX_MMA(name, instruction, D, constraint) \
  __device__ __forceinline__ void name(D(&)[4], const uint32_t(&)[4], const uint32_t(&)[2]) { __trap(); }
#endif
// d += A B; bf16: two elements to a register; tf32: one, whose lowest 13 bits are ignored; both summed in float, in an
// order and with roundings that the ISA leaves open
RDH_PTX_MMA(mma_bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", float, "f")
RDH_PTX_MMA(mma_tf32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", float, "f")
// four signed bytes to a register; exact, modulo 2^32
RDH_PTX_MMA(mma_s8, "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", int32_t, "r")
// 32 bits to a register; d += popcount(A and B); exact
RDH_PTX_MMA(mma_b1_and, "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc", int32_t, "r")
#undef RDH_PTX_MMA
#undef RDH_PTX_SM80

#elif defined(RDH_SIMT)

using simt::Site;

inline float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
inline float ex2_approx(float x) { return flushed(std::exp2(flushed(x))); }
inline float rcp_approx(float x) { return flushed(1 / flushed(x)); }

// What is on its way is NaN: whoever reads it before it has landed, or writes it, is seen.
template <int Bytes>
void cp_async(void* shared, const void* global, int valid = Bytes, Site site = Site::current()) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  simt::cp_async_issue({shared, global, Bytes, valid}, site);
  std::memset(shared, 0xFF, Bytes);
}

inline void cp_async_commit(Site site = Site::current()) { simt::cp_async_commit(site); }

template <int InFlight>
void cp_async_wait(Site site = Site::current()) {
  int count = 0;
  const simt::AsyncCopy* copies = simt::cp_async_landed(InFlight, count, site);
  for (int i = 0; i < count; ++i) {
    char* to = static_cast<char*>(copies[i].to);
    const char* from = static_cast<const char*>(copies[i].from);
    for (int j = 0; j < copies[i].bytes; ++j) to[j] = j < copies[i].valid ? from[j] : char{0};
  }
}

template <bool Transposed>
void ldmatrix_x4(uint32_t (&r)[4], const void* row, Site site = Site::current()) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) simt::fail(site, "ldmatrix: a row must be aligned to 16 bytes");
  const uint64_t* rows = simt::meet(0xFFFFFFFFu, simt::to_word(row), "ldmatrix", false, site);
  const int g = simt::lane() / 4, t = simt::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    uint16_t pair[2];
    for (int j = 0; j < 2; ++j) {
      const int from = Transposed ? 2 * t + j : g, column = Transposed ? g : 2 * t + j;
      pair[j] = simt::from_word<const uint16_t*>(rows[8 * i + from])[column];
    }
    r[i] = pair[0] | uint32_t{pair[1]} << 16;
  }
}

// The elements of all lanes' fragments, and the sums of products of the four places of D that are this lane's.
template <int PerRegister, class Sum, class Element>
void mma(Sum (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const char* what, Site site, Element element) {
  uint32_t all[6][32];
  const uint32_t own[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  for (int i = 0; i < 6; ++i) {
    const uint64_t* words = simt::meet(0xFFFFFFFFu, own[i], what, false, site);
    for (int lane = 0; lane < 32; ++lane) all[i][lane] = static_cast<uint32_t>(words[lane]);
  }
  const int g = simt::lane() / 4, t = simt::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const int n = 2 * t + i % 2;
    for (int k = 0; k < 8 * PerRegister; ++k) {
      const int part = k / PerRegister, at = k % PerRegister;  // part: t + 4 * (which register)
      const uint32_t left = all[part / 4 * 2 + i / 2][4 * g + part % 4], right = all[4 + part / 4][4 * n + part % 4];
      sums[i] += element(left, at) * element(right, at);
    }
  }
}

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site = Site::current()) {
  double sums[4] = {d[0], d[1], d[2], d[3]};
  mma<2>(sums, a, b, "mma bf16", site, [](uint32_t word, int at) -> double {
    return simt::same_bits<float>(at == 0 ? word << 16 : word & 0xFFFF0000u);
  });
  for (int i = 0; i < 4; ++i) d[i] = static_cast<float>(sums[i]);
}

inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site = Site::current()) {
  double sums[4] = {d[0], d[1], d[2], d[3]};
  mma<1>(sums, a, b, "mma tf32", site,
         [](uint32_t word, int) -> double { return simt::same_bits<float>(word & 0xFFFFE000u); });
  for (int i = 0; i < 4; ++i) d[i] = static_cast<float>(sums[i]);
}

inline void mma_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site = Site::current()) {
  int64_t sums[4] = {d[0], d[1], d[2], d[3]};
  mma<4>(sums, a, b, "mma s8", site, [](uint32_t word, int at) -> int64_t { return int8_t(word >> 8 * at); });
  for (int i = 0; i < 4; ++i) d[i] = static_cast<int32_t>(sums[i]);
}

inline void mma_b1_and(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site = Site::current()) {
  int64_t sums[4] = {d[0], d[1], d[2], d[3]};
  mma<32>(sums, a, b, "mma b1", site, [](uint32_t word, int at) -> int64_t { return word >> at & 1; });
  for (int i = 0; i < 4; ++i) d[i] = static_cast<int32_t>(sums[i]);
}

#endif

}  // namespace rdh::cuda::ptx
