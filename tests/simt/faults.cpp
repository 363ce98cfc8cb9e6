// Planted faults, each tied to the build that must turn red, and to a word of what it must say: the self-test of the
// tools. FAULT(name, build, "words"); run by name, by test_faults.py.

#include <cuda_runtime.h>

#include "common/cuda_kernel.h"
#include "common/ptx.cuh"
#include "harness.h"

namespace {

using harness::DeviceArray;
namespace ptx = rdh::cuda::ptx;

constexpr unsigned full = 0xFFFFFFFFu;

// Runs a kernel of 64 threads over floats 0, 1, 2 ..., and expects it to reverse them.
template <auto Kernel>
void expect_reversed(unsigned blocks = 2) {
  std::vector<float> x(64 * blocks), expected(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(i);
    expected[i / 64 * 64 + 63 - i % 64] = x[i];
  }
  const DeviceArray<float> x_(x), out(x.size());
  LAUNCH(Kernel, blocks, 64, 0, nullptr, x_.data(), out.data());
  FINISH();
  EXPECT(out.read() == expected, "not reversed");
}

__global__ void reverse_without_barrier(const float* x, float* out) {
  SHARED(float, tile, [64]);
  tile[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
  out[blockIdx.x * 64 + threadIdx.x] = tile[63 - threadIdx.x];
}
FAULT(missing_barrier, o2, "not reversed") { expect_reversed<reverse_without_barrier>(); }
FAULT(missing_barrier_races, tsan, "data race") { expect_reversed<reverse_without_barrier>(); }

__global__ void reverse_unwritten(const float* x, float* out) {
  SHARED(float, tile, [64]);
  if (threadIdx.x != 7) tile[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
  __syncthreads();
  out[blockIdx.x * 64 + threadIdx.x] = tile[63 - threadIdx.x];
}
FAULT(uninitialised_shared, o2, "not reversed") { expect_reversed<reverse_unwritten>(1); }
FAULT(uninitialised_shared_of_a_later_block, o2, "not reversed") { expect_reversed<reverse_unwritten>(3); }

__global__ void reverse_past_shared(const float* x, float* out) {
  SHARED(float, array, [64]);
  float* const tile = array;
  tile[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
  __syncthreads();
  out[blockIdx.x * 64 + threadIdx.x] = tile[64 - threadIdx.x];
}
FAULT(off_by_one_in_shared, asan, "heap-buffer-overflow") { expect_reversed<reverse_past_shared>(); }

__global__ void reverse_past_global(const float* x, float* out) {
  SHARED(float, tile, [64]);
  tile[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x + 1];
  __syncthreads();
  out[blockIdx.x * 64 + threadIdx.x] = tile[63 - threadIdx.x];
}
FAULT(off_by_one_in_global, asan, "heap-buffer-overflow") { expect_reversed<reverse_past_global>(); }

__global__ void reverse_in_pairs(const float* x, float* out) {
  const float2 pair = *reinterpret_cast<const float2*>(x + 2 * (threadIdx.x / 2) + 1 - 2 * (threadIdx.x / 63));
  out[63 - threadIdx.x] = threadIdx.x % 2 ? pair.y : pair.x;
}
FAULT(misaligned_vector_in_global, asan, "misaligned address") { expect_reversed<reverse_in_pairs>(1); }

__global__ void reverse_with_wide_reads_of_shared(const float* x, float* out) {
  SHARED(float, tile, [64]);  // aligned as a float is, and no better
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  const float4 four = reinterpret_cast<const float4*>(tile)[threadIdx.x / 4];
  const float values[4] = {four.x, four.y, four.z, four.w};
  out[63 - threadIdx.x] = values[threadIdx.x % 4];
}
FAULT(misaligned_vector_in_shared, asan, "misaligned address") {
  expect_reversed<reverse_with_wide_reads_of_shared>(1);
}

__global__ void reverse_by_shift(const float* x, float* out) {
  const int bits = 1 << threadIdx.x;  // 64 threads
  out[63 - threadIdx.x] = bits == 0 ? 0 : x[threadIdx.x];
}
FAULT(shift_too_far, asan, "shift exponent") { expect_reversed<reverse_by_shift>(1); }

__global__ void reverse_by_large_index(const float* x, float* out) {
  const int index = static_cast<int>(threadIdx.x) * 100'000'000;
  out[63 - threadIdx.x] = x[index / 100'000'000];
}
FAULT(index_overflow, asan, "signed integer overflow") { expect_reversed<reverse_by_large_index>(1); }

// --- updates that are not atomic, memory that is not ordered ---------------------------------------------------------

template <bool InShared, bool InGlobal>  // which of the two updates is plain
__global__ void count_kernel(int* total) {
  SHARED(int, local, );
  if (threadIdx.x == 0) local = 0;
  __syncthreads();
  if (InShared) {
    local += 1;
  } else {
    atomicAdd(&local, 1);
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  if (InGlobal) {
    *total += local;
  } else {
    atomicAdd(total, local);
  }
}
template <bool InShared, bool InGlobal>
void expect_count() {
  const DeviceArray<int> total(std::vector<int>(1, 0));
  LAUNCH((count_kernel<InShared, InGlobal>), 3, 32, 0, nullptr, total.data());
  FINISH();
  EXPECT(total.read()[0] == 96);
}
TEST(counts_without_a_fault) { expect_count<false, false>(); }
FAULT(plain_update_of_shared, tsan, "data race") { expect_count<true, false>(); }
FAULT(plain_update_of_global, tsan, "data race") { expect_count<false, true>(); }

__global__ void all_blocks_write(const float* x, float* out) { out[threadIdx.x] = x[63 - threadIdx.x]; }
FAULT(blocks_write_one_place, tsan, "data race") {
  const DeviceArray<float> x(std::vector<float>(64, 1)), out(64);
  LAUNCH(all_blocks_write, 2, 64, 0, nullptr, x.data(), out.data());
  FINISH();
}

template <bool Before, bool After>  // the fences of the one that writes and the one that reads
__global__ void hand_over(int* value, unsigned* ticket, int* out) {
  if (threadIdx.x != 0) return;
  value[blockIdx.x] = 5;
  if (Before) __threadfence();
  const bool last = atomicAdd(ticket, 1u) == 1;
  if (After) __threadfence();
  if (last) *out = value[0] + value[1];
}
template <bool Before, bool After>
void expect_handed_over() {
  const DeviceArray<int> value(2), out(1);
  const DeviceArray<unsigned> ticket(std::vector<unsigned>(1, 0));
  LAUNCH((hand_over<Before, After>), 2, 32, 0, nullptr, value.data(), ticket.data(), out.data());
  FINISH();
  EXPECT(out.read()[0] == 10);
}
TEST(handed_over_without_a_fault) { expect_handed_over<true, true>(); }
FAULT(missing_fence_before, tsan, "data race") { expect_handed_over<false, true>(); }
FAULT(missing_fence_after, tsan, "data race") { expect_handed_over<true, false>(); }

template <bool Ordered>
__global__ void reverse_in_warps(const float* x, float* out) {
  SHARED(float, tile, [64]);
  const unsigned me = threadIdx.x, warp = me / 32 * 32;
  tile[me] = x[63 - me];
  if (Ordered) __syncwarp();
  const float twice = tile[warp + 31 - me % 32];
  out[warp + 31 - me % 32] = twice;
}
TEST(reversed_in_warps_without_a_fault) { expect_reversed<reverse_in_warps<true>>(1); }
FAULT(missing_syncwarp, o2, "not reversed") { expect_reversed<reverse_in_warps<false>>(1); }
FAULT(missing_syncwarp_races, tsan, "data race") { expect_reversed<reverse_in_warps<false>>(1); }

// --- meetings that do not take place ---------------------------------------------------------------------------------

__global__ void lane_outside_its_mask(float* out) { out[threadIdx.x] = __shfl_sync(0xFFFFu, 1.0f, 0); }
__global__ void half_a_warp_shuffles(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(full, 1.0f, 0);
  __syncthreads();
}
__global__ void half_a_warp_is_gone(float* out) {
  if (threadIdx.x >= 16) return;
  out[threadIdx.x] = __shfl_sync(full, 1.0f, 0);
}
__global__ void masks_differ(float* out) {
  out[threadIdx.x] = __shfl_sync(threadIdx.x < 16 ? full : 0xFFFF0000u, 1.0f, 16);
}
__global__ void reads_outside_the_mask(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_down_sync(0xFFFFu, 1.0f, 8);
}
__global__ void barriers_of_two_branches(float* out) {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}
__global__ void some_end_before_the_barrier(float* out) {
  if (threadIdx.x == 9) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}
template <auto Kernel>
void launch_on_a_warp(size_t dynamic_bytes = 0, unsigned blocks = 1) {
  const DeviceArray<float> out(32);
  LAUNCH(Kernel, blocks, 32, dynamic_bytes, nullptr, out.data());
  FINISH();
}
FAULT(wrong_shuffle_mask, o2, "lane 16 is not in its own mask 0000ffff") { launch_on_a_warp<lane_outside_its_mask>(); }
FAULT(lanes_never_arrive, o2, "lanes that never arrive") { launch_on_a_warp<half_a_warp_shuffles>(); }
FAULT(lanes_that_ended, o2, "has ended|wait for it in __shfl_sync") { launch_on_a_warp<half_a_warp_is_gone>(); }
FAULT(masks_that_differ, o2, "lanes that never arrive|wait for it in __shfl_sync|has ended") {
  launch_on_a_warp<masks_differ>();
}
FAULT(shuffle_from_outside_the_mask, o2, "reads lane 23, which is not in mask 0000ffff") {
  launch_on_a_warp<reads_outside_the_mask>();
}
FAULT(divergent_barrier, o2, "divergent barrier: other threads wait at") {
  launch_on_a_warp<barriers_of_two_branches>();
}
FAULT(exit_before_a_barrier, o2, "ended before it|wait at this barrier") {
  launch_on_a_warp<some_end_before_the_barrier>();
}

// --- copies ----------------------------------------------------------------------------------------------------------

template <bool Wait, bool Barrier, bool Copied>
__global__ void reverse_by_copies(const float* x, float* out) {
  SHARED(float, tile, [64]);
  const unsigned me = threadIdx.x;
  ptx::cp_async<4>(&tile[me], x + blockIdx.x * 64 + me);
  ptx::cp_async_commit();
  if (Wait) ptx::cp_async_wait<0>();
  __syncthreads();
  const float value = tile[63 - me];
  if (Barrier) __syncthreads();
  if (Copied) ptx::cp_async<4>(&tile[me], x);  // the next tile
  ptx::cp_async_commit();
  if (Wait) ptx::cp_async_wait<0>();
  out[blockIdx.x * 64 + me] = value;
}
TEST(copied_without_a_fault) { expect_reversed<reverse_by_copies<true, true, true>>(); }
FAULT(copy_not_waited_for, o2, "had not waited for this copy") {
  expect_reversed<reverse_by_copies<false, true, false>>();
}
FAULT(buffer_refilled_while_read, o2, "not reversed") { expect_reversed<reverse_by_copies<true, false, true>>(); }
FAULT(buffer_refilled_while_read_races, tsan, "data race") { expect_reversed<reverse_by_copies<true, false, true>>(); }

__global__ void copy_out_of_shared(float* out) { ptx::cp_async<4>(out + threadIdx.x, out); }
FAULT(copy_to_global, o2, "not shared memory") { launch_on_a_warp<copy_out_of_shared>(); }

// --- launches that no device takes -----------------------------------------------------------------------------------

__global__ void uses_dynamic_memory(float* out) {
  DYN_SMEM(float, room);
  room[threadIdx.x] = 1;
  out[threadIdx.x] = room[threadIdx.x];
}
FAULT(too_much_dynamic_memory, o2, "see cudaFuncSetAttribute") { launch_on_a_warp<uses_dynamic_memory>(50 << 10); }
FAULT(no_dynamic_memory, o2, "launched with none") { launch_on_a_warp<uses_dynamic_memory>(); }
FAULT(no_blocks, o2, "no device takes a grid of") { launch_on_a_warp<uses_dynamic_memory>(128, 0); }
TEST(much_dynamic_memory_that_was_asked_for) {
  cudaFuncSetAttribute(reinterpret_cast<const void*>(uses_dynamic_memory), cudaFuncAttributeMaxDynamicSharedMemorySize,
                       64 << 10);
  launch_on_a_warp<uses_dynamic_memory>(50 << 10);
}

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
