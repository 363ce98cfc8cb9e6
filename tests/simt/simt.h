// CUDA on the host, for tests: what a kernel sees when g++ compiles it with `-include simt.h` instead of nvcc.
//
// Every CUDA thread is a fiber that runs until it waits: at a barrier, or in a warp intrinsic until the lanes of its
// mask are there. Blocks run one after the other; blocks and threads run in an order that tests choose, so that code
// which needs an order that no barrier gives breaks. Shared memory is filled with 0xFF (NaN) when a block starts.
// Misuse is reported with file and line: lanes missing from a mask or from a meeting, barriers that diverge, threads
// that end before a barrier, copies that nobody waits for, shapes that no device takes. Data races and wild accesses
// are what the builds with TSan (each CUDA thread is one of its threads, and only barriers, __syncwarp and fences order
// memory) and with ASan and UBSan find.
//
// Not here: wgmma, TMA, mbarrier, clusters, grid sync, CUB, cooperative groups, independent progress of blocks. It says
// nothing about speed, bank conflicts, approximate intrinsics, or compilers.
#pragma once

#define RDH_SIMT 1

#include <cuda_runtime.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

namespace simt {

using Site = std::source_location;

struct Thread {
  uint3 thread, block;
  dim3 threads, blocks;
};
extern const Thread* self;  // the CUDA thread that is running

// --- launching; simt.cpp is compiled without sanitizers, so that they see kernels and not the simulator -------------

struct Launch {
  const char* kernel;  // holds the instance's name after "Kernel = "
  const void* function;
  dim3 blocks, threads;
  size_t dynamic_bytes;
  Site site;
};
void run(const Launch& launch, void (*body)(const void*), const void* closure);

template <auto Kernel, class... Arguments>
void launch(dim3 blocks, dim3 threads, size_t dynamic_bytes, cudaStream_t, Site site, const Arguments&... arguments) {
  const auto body = [&] { Kernel(arguments...); };
  using Body = decltype(body);
  run(
      {__PRETTY_FUNCTION__, reinterpret_cast<const void*>(Kernel), blocks, threads, dynamic_bytes, site},
      [](const void* closure) { (*static_cast<const Body*>(closure))(); }, &body);
}

// "forward" (as it is unless set), "reverse", "random:<seed>". False: no such order.
bool set_order(const char* order);
int failures();              // what the checks reported so far
const char* last_failure();  // the last of them, one line

[[noreturn]] void fail(Site site, const char* format, ...) __attribute__((format(printf, 2, 3)));

// A call site that a mutation test took out: SIMT_REMOVE=<end of path>:<line>:drop|plain. Dropped calls do nothing;
// plain ones update memory without atomicity.
enum class Removed { no, drop, plain };
Removed removed(Site site);

// --- memory ----------------------------------------------------------------------------------------------------------

void* shared_array(const void* key, size_t bytes, size_t alignment, Site site = Site::current());
void* dynamic_shared(Site site = Site::current());

struct AsyncCopy {
  void* to;
  const void* from;
  int bytes, valid;  // the rest is zeros
};
void cp_async_issue(const AsyncCopy& copy, Site site);
void cp_async_commit(Site site);
const AsyncCopy* cp_async_landed(int groups_in_flight, int& count, Site site);

// --- meetings --------------------------------------------------------------------------------------------------------

struct Votes {
  int count, threads;
};
Votes barrier(bool vote, Site site);
void fence(Site site);
int lane();

// The values of all lanes once those of `mask` have brought theirs; valid until the next call.
const uint64_t* meet(unsigned mask, uint64_t value, const char* what, bool orders_memory, Site site);

template <class T>
uint64_t to_word(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  return word;
}

template <class T>
T from_word(uint64_t word) {
  T value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

// `from(lane, first)` names the lane to read, `first` being the first lane of its segment.
template <class T, class From>
T shuffle(unsigned mask, T value, int width, const char* what, Site site, From from) {
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) fail(site, "%s: width %d", what, width);
  const uint64_t* words = meet(mask, to_word(value), what, false, site);
  const int source = from(lane(), lane() / width * width);
  if ((mask >> source & 1) == 0) fail(site, "%s: reads lane %d, which is not in mask %08x", what, source, mask);
  return from_word<T>(words[source]);
}

// The values of all lanes in the mask, folded by `combine`.
template <class T, class Combine>
T reduce(unsigned mask, T value, const char* what, Site site, Combine combine) {
  const uint64_t* words = meet(mask, to_word(value), what, false, site);
  int i = std::countr_zero(mask);
  T result = from_word<T>(words[i]);
  while (++i < 32) {
    if (mask >> i & 1) result = combine(result, from_word<T>(words[i]));
  }
  return result;
}

// --- atomics: atomic for TSan as for everybody, and, as on a device, without any order but what fences give them
// ------

#if defined(RDH_SIMT_TSAN)
void order_by_fences(const void* atomic);
#else
inline void order_by_fences(const void*) {}
#endif

template <class T, class Change>
T update(T* at, Site site, Change change) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 2);
  switch (removed(site)) {
    case Removed::drop:
      return T();
    case Removed::plain: {
      const T old = *at;
      *at = change(old);
      return old;
    }
    case Removed::no:
      break;
  }
  T old, fresh;
  __atomic_load(at, &old, __ATOMIC_RELAXED);
  do {
    fresh = change(old);
  } while (!__atomic_compare_exchange(at, &old, &fresh, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  order_by_fences(at);
  return old;
}

template <class T>
using Same = std::type_identity_t<T>;

template <class To, class From>
To same_bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  return from_word<To>(to_word(value));
}

}  // namespace simt

#undef __launch_bounds__
#define __launch_bounds__(...)
#define threadIdx (::simt::self->thread)
#define blockIdx (::simt::self->block)
#define blockDim (::simt::self->threads)
#define gridDim (::simt::self->blocks)
#define warpSize 32

inline void __syncthreads(simt::Site site = simt::Site::current()) { simt::barrier(false, site); }
inline int __syncthreads_count(int vote, simt::Site site = simt::Site::current()) {
  return simt::barrier(vote != 0, site).count;
}
inline int __syncthreads_or(int vote, simt::Site site = simt::Site::current()) {
  return simt::barrier(vote != 0, site).count != 0;
}
inline int __syncthreads_and(int vote, simt::Site site = simt::Site::current()) {
  const simt::Votes votes = simt::barrier(vote != 0, site);
  return votes.count == votes.threads;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, simt::Site site = simt::Site::current()) {
  if (simt::removed(site) == simt::Removed::no) simt::meet(mask, 0, "__syncwarp", true, site);
}
inline void __threadfence(simt::Site site = simt::Site::current()) { simt::fence(site); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, simt::Site site = simt::Site::current()) {
  const auto from = [=](int, int first) { return first + (source & (width - 1)); };
  return simt::shuffle(mask, value, width, "__shfl_sync", site, from);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, simt::Site site = simt::Site::current()) {
  const auto from = [=](int lane, int first) { return delta > unsigned(lane - first) ? lane : lane - int(delta); };
  return simt::shuffle(mask, value, width, "__shfl_up_sync", site, from);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, simt::Site site = simt::Site::current()) {
  const auto from = [=](int lane, int first) {
    return delta >= unsigned(first + width - lane) ? lane : lane + int(delta);
  };
  return simt::shuffle(mask, value, width, "__shfl_down_sync", site, from);
}
// Earlier segments can be read, later ones give the own value.
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, simt::Site site = simt::Site::current()) {
  const auto from = [=](int lane, int first) { return (lane ^ bits) >= first + width ? lane : lane ^ bits; };
  return simt::shuffle(mask, value, width, "__shfl_xor_sync", site, from);
}

inline unsigned __ballot_sync(unsigned mask, int vote, simt::Site site = simt::Site::current()) {
  const uint64_t* words = simt::meet(mask, vote != 0, "__ballot_sync", false, site);
  unsigned votes = 0;
  for (int i = 0; i < 32; ++i) votes |= (mask >> i & 1) != 0 && words[i] != 0 ? 1u << i : 0u;
  return votes;
}
inline int __any_sync(unsigned mask, int vote, simt::Site site = simt::Site::current()) {
  return __ballot_sync(mask, vote, site) != 0;
}
inline int __all_sync(unsigned mask, int vote, simt::Site site = simt::Site::current()) {
  return __ballot_sync(mask, vote, site) == mask;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, simt::Site site = simt::Site::current()) {
  const uint64_t* words = simt::meet(mask, simt::to_word(value), "__match_any_sync", false, site);
  unsigned equal = 0;
  for (int i = 0; i < 32; ++i) equal |= (mask >> i & 1) != 0 && words[i] == simt::to_word(value) ? 1u << i : 0u;
  return equal;
}

#define SIMT_WARP_REDUCTION(name, Type, expression)                                                   \
  inline Type name(unsigned mask, Type value, simt::Site site = simt::Site::current()) {              \
    return simt::reduce(mask, value, #name, site, [](Type a, Type b) -> Type { return expression; }); \
  }
SIMT_WARP_REDUCTION(__reduce_add_sync, unsigned, a + b)
SIMT_WARP_REDUCTION(__reduce_add_sync, int, a + b)
SIMT_WARP_REDUCTION(__reduce_min_sync, unsigned, a < b ? a : b)
SIMT_WARP_REDUCTION(__reduce_min_sync, int, a < b ? a : b)
SIMT_WARP_REDUCTION(__reduce_max_sync, unsigned, a < b ? b : a)
SIMT_WARP_REDUCTION(__reduce_max_sync, int, a < b ? b : a)
SIMT_WARP_REDUCTION(__reduce_and_sync, unsigned, a& b)
SIMT_WARP_REDUCTION(__reduce_or_sync, unsigned, a | b)
SIMT_WARP_REDUCTION(__reduce_xor_sync, unsigned, a ^ b)
#undef SIMT_WARP_REDUCTION

#define SIMT_ATOMIC(name, expression)                                                 \
  template <class T>                                                                  \
  T name(T* at, simt::Same<T> value, simt::Site site = simt::Site::current()) {       \
    return simt::update(at, site, [=](T old) { return static_cast<T>(expression); }); \
  }
SIMT_ATOMIC(atomicAdd, old + value)
SIMT_ATOMIC(atomicSub, old - value)
SIMT_ATOMIC(atomicMin, value < old ? value : old)
SIMT_ATOMIC(atomicMax, old < value ? value : old)
SIMT_ATOMIC(atomicAnd, old& value)
SIMT_ATOMIC(atomicOr, old | value)
SIMT_ATOMIC(atomicXor, old ^ value)
SIMT_ATOMIC(atomicExch, (static_cast<void>(old), value))
SIMT_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef SIMT_ATOMIC
template <class T>
T atomicCAS(T* at, simt::Same<T> expected, simt::Same<T> value, simt::Site site = simt::Site::current()) {
  return simt::update(at, site, [=](T old) { return old == expected ? value : old; });
}

template <class T>
T __ldg(const T* at) {
  return *at;
}
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1) << (31 - i);
  return reversed;
}
template <class T>
T __dp4a_bytes(unsigned a, unsigned b, T sum) {
  using Byte = std::conditional_t<std::is_signed_v<T>, int8_t, uint8_t>;
  for (int i = 0; i < 4; ++i) sum += static_cast<T>(Byte(a >> 8 * i)) * static_cast<T>(Byte(b >> 8 * i));
  return sum;
}
inline int __dp4a(int a, int b, int sum) {
  return __dp4a_bytes(static_cast<unsigned>(a), static_cast<unsigned>(b), sum);
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned sum) { return __dp4a_bytes(a, b, sum); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }

inline unsigned __float_as_uint(float x) { return simt::same_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return simt::same_bits<float>(x); }
