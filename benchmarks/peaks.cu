// What a GPU does at most, for the ceilings of the benchmarks: compiled on the spot for the device at hand and called
// by peaks.py. Each function takes about `seconds`, times its launches one by one between CUDA events, and returns the
// rate of the fastest: a rate above 0, or what peaks_problem() has words for.

#include <algorithm>
#include <vector>

#include "peaks_kernels.cuh"

namespace peaks {
namespace {

constexpr double wrong_result = -100000;

double problem(cudaError_t error) { return -static_cast<double>(static_cast<int>(error)); }

// Memory on the device, given back at the end.
template <class T>
class Array {
 public:
  explicit Array(int64_t n) : error_(cudaMalloc(&memory_, static_cast<size_t>(n) * sizeof(T))) {}
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { cudaFree(memory_); }
  cudaError_t error() const { return error_; }
  T* data() const { return static_cast<T*>(memory_); }
  T read(int64_t i) const {
    T value{};
    cudaMemcpy(&value, data() + i, sizeof(T), cudaMemcpyDeviceToHost);
    return value;
  }

 private:
  void* memory_ = nullptr;
  cudaError_t error_;
};

class Event {
 public:
  Event() { cudaEventCreate(&event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { cudaEventDestroy(event_); }
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Seconds of one launch.
template <class Launch>
double timed(const Event& start, const Event& end, Launch launch) {
  cudaEventRecord(start.get());
  launch();
  cudaEventRecord(end.get());
  cudaEventSynchronize(end.get());
  float milliseconds = 0;
  cudaEventElapsedTime(&milliseconds, start.get(), end.get());
  return milliseconds / 1e3;
}

// Seconds of the fastest of several launches, after some that bring the clock up and do not count.
template <class Launch>
double fastest(double seconds, Launch launch) {
  const Event start, end;
  double once = timed(start, end, launch);
  for (double warm = once; warm < seconds / 4; warm += once) once = timed(start, end, launch);
  const int rounds = static_cast<int>(std::clamp(seconds / std::max(once, 1e-6), 5.0, 10000.0));
  double best = once;
  for (int round = 0; round < rounds; ++round) best = std::min(best, timed(start, end, launch));
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? best : problem(error);
}

unsigned blocks_of_device() {
  int device = 0, multiprocessors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  return 8 * static_cast<unsigned>(multiprocessors);
}

template <int W>
double scan_rate(double seconds) {
  constexpr int passes = 8 / W;  // about 2 million clocks of a multiprocessor
  const unsigned blocks = blocks_of_device();
  const int64_t all = static_cast<int64_t>(blocks) * threads;
  const Array<uint64_t> results(all);
  if (results.error() != cudaSuccess) return problem(results.error());
  const double best =
      fastest(seconds, [&] { LAUNCH((scan_kernel<W, threads>), blocks, threads, 0, nullptr, passes, results.data()); });
  if (best <= 0) return best;
  for (const int64_t thread : {int64_t{0}, all - 1}) {
    if (results.read(thread) != scan_of_thread<W>(thread, passes)) return wrong_result;
  }
  return static_cast<double>(all) * own_codes * tile * passes / best;
}

}  // namespace
}  // namespace peaks

extern "C" {

const char* peaks_problem(double rate) {
  if (rate == peaks::wrong_result) return "the device computes something else than the host";
  return rate < 0 ? cudaGetErrorString(static_cast<cudaError_t>(static_cast<int>(-rate))) : "";
}

// Bytes read and bytes written per second by a copy of so many bytes; far more than the second-level cache holds, or it
// is that which is measured.
double copy_bytes_per_second(int64_t bytes, double seconds) {
  using namespace peaks;
  const int64_t words = std::max<int64_t>(1, bytes / 16);
  const Array<uint4> source(words), target(words);
  for (const auto* array : {&source, &target}) {
    if (array->error() != cudaSuccess) return problem(array->error());
  }
  cudaMemset(source.data(), 0x5A, static_cast<size_t>(words) * 16);
  cudaMemset(target.data(), 0, static_cast<size_t>(words) * 16);
  const unsigned blocks = blocks_of_device();
  const double best = fastest(seconds, [&] {
    LAUNCH((copy_kernel<threads>), blocks, threads, 0, nullptr, source.data(), target.data(), words);
  });
  if (best <= 0) return best;
  for (const int64_t i : {int64_t{0}, words / 2, words - 1}) {
    if (target.read(i).w != 0x5A5A5A5Au) return wrong_result;
  }
  return 32.0 * static_cast<double>(words) / best;
}

// Floating-point operations per second of float32 fused multiply-adds, two to each.
double fma_flops_per_second(double seconds) {
  using namespace peaks;
  constexpr int rounds = 512;  // about 2 million clocks of a multiprocessor
  const unsigned blocks = blocks_of_device();
  const int64_t all = static_cast<int64_t>(blocks) * threads;
  const Array<float> results(all);
  if (results.error() != cudaSuccess) return problem(results.error());
  const double best = fastest(seconds, [&] {
    LAUNCH((fma_kernel<threads>), blocks, threads, 0, nullptr, factor, term, rounds, results.data());
  });
  if (best <= 0) return best;
  for (const int64_t thread : {int64_t{0}, all - 1}) {
    if (results.read(thread) != fma_chains(thread, factor, term, rounds)) return wrong_result;
  }
  return 2.0 * static_cast<double>(all) * rounds * repeats * chains / best;
}

// Pairs of codes of 32 words bits per second whose distance is counted and added up.
double scan_pairs_per_second(int words, double seconds) {
  using namespace peaks;
  if (words == 1) return scan_rate<1>(seconds);
  if (words == 2) return scan_rate<2>(seconds);
  if (words == 4) return scan_rate<4>(seconds);
  return problem(cudaErrorInvalidValue);
}
}
