// A C++ test runner that is the same under the simulator and on a device: TEST(name) { ... EXPECT(...); }.
// The binary runs all tests, under the simulator in every thread order of --orders, and exits with 0 if all passed.
#pragma once

#include <cuda_runtime.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace harness {

struct Test {
  const char* name;
  void (*body)();
  bool is_fault;  // a planted one: runs by its name only, and must turn the run red
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Register {
  Register(const char* name, void (*body)(), bool is_fault) { tests().push_back({name, body, is_fault}); }
};

inline int& complaints() {
  static int count = 0;
  return count;
}

__attribute__((format(printf, 3, 4))) inline void complain(const char* file, int line, const char* format, ...) {
  if (++complaints() > 5) return;  // a wrong kernel is wrong everywhere
  std::fprintf(stderr, "%s:%d: ", file, line);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
}

// Waits for the device; a launch that failed, or ran wild, is a complaint.
inline void finish(const char* file, int line) {
#if defined(RDH_SIMT)
  static int known = 0;
  if (simt::failures() != known) complain(file, line, "%s", simt::last_failure());
  known = simt::failures();
  const cudaError_t error = cudaGetLastError();
#else
  const cudaError_t launch = cudaGetLastError(), run = cudaDeviceSynchronize();
  const cudaError_t error = launch != cudaSuccess ? launch : run;
#endif
  if (error != cudaSuccess)
    complain(file, line, "CUDA error %d: %s", static_cast<int>(error), cudaGetErrorString(error));
}

// n elements on the device, `offset` elements past what an allocation is aligned to, and nothing behind the last one.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t n, size_t offset = 0) : n_(n), offset_(offset) {
    const size_t bytes = (n + offset) * sizeof(T) + (n + offset == 0);
#if defined(RDH_SIMT)
    if (posix_memalign(&memory_, 256, bytes) != 0) std::abort();
    std::memset(memory_, 0xFF, bytes);
#else
    // initcheck is to see what was never written; everything else, NaN
    const bool fill = std::getenv("HARNESS_UNFILLED") == nullptr;
    if (cudaMalloc(&memory_, bytes) != cudaSuccess || (fill && cudaMemset(memory_, 0xFF, bytes) != cudaSuccess)) {
      std::fprintf(stderr, "no %zu bytes on the device\n", bytes);
      std::exit(1);
    }
#endif
  }
  DeviceArray(const std::vector<T>& values, size_t offset = 0) : DeviceArray(values.size(), offset) {
#if defined(RDH_SIMT)
    if (n_ != 0) std::memcpy(data(), values.data(), n_ * sizeof(T));
#else
    cudaMemcpy(data(), values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice);
#endif
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() {
#if defined(RDH_SIMT)
    std::free(memory_);
#else
    cudaFree(memory_);
#endif
  }
  T* data() const { return static_cast<T*>(memory_) + offset_; }
  std::vector<T> read() const {
    std::vector<T> values(n_);
#if defined(RDH_SIMT)
    if (n_ != 0) std::memcpy(values.data(), data(), n_ * sizeof(T));
#else
    cudaMemcpy(values.data(), data(), n_ * sizeof(T), cudaMemcpyDeviceToHost);
#endif
    return values;
  }

 private:
  void* memory_ = nullptr;
  size_t n_, offset_;
};

// 100 major + 10 minor; the simulator is held back by nothing.
inline int capability() {
#if defined(RDH_SIMT)
  return 1000;
#else
  cudaDeviceProp properties;
  return cudaGetDeviceProperties(&properties, 0) == cudaSuccess ? 100 * properties.major + 10 * properties.minor : 0;
#endif
}

inline std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

inline bool run(const Test& test, const std::string& order) {
  complaints() = 0;
  test.body();
  finish(test.name, 0);
  const bool passed = complaints() == 0;
  std::printf("%-6s %s%s%s\n", passed ? "passed" : "FAILED", test.name, order.empty() ? "" : " ", order.c_str());
  std::fflush(stdout);
  return passed;
}

inline int usage(const char* program) {
  std::printf("%s [--list] [--stop] [--orders forward,reverse,random:1] [part of a test's name | a fault's name]\n",
              program);
  return 2;
}

inline int main(int count, char** arguments) {
  std::vector<std::string> orders = {""};
  std::string filter;
  bool stop = false;  // at the first failure
#if defined(RDH_SIMT)
  orders = {"forward"};
#endif
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--list") {
      for (const Test& test : tests()) std::printf("%s%s\n", test.is_fault ? "fault " : "", test.name);
      return 0;
    }
    if (argument == "--stop")
      stop = true;
    else if (argument == "--orders" && i + 1 < count)
      orders = split(arguments[++i]);
    else if (argument[0] == '-' || !filter.empty())
      return usage(arguments[0]);
    else
      filter = argument;
  }
  int ran = 0, failed = 0;
  for (const std::string& order : orders) {
#if defined(RDH_SIMT)
    if (!simt::set_order(order.c_str())) return usage(arguments[0]);
#endif
    for (const Test& test : tests()) {
      if (test.is_fault ? filter != test.name : std::strstr(test.name, filter.c_str()) == nullptr) continue;
      ++ran;
      failed += !run(test, order);
      if (stop && failed != 0) return 1;
    }
  }
  std::printf("%d of %d failed\n", failed, ran);  // benchmarks/gpu_check.py reads this line
#if !defined(RDH_SIMT)
  cudaDeviceReset();  // or memcheck does not look for leaks
#endif
  return ran == 0 || failed != 0;
}

}  // namespace harness

#define HARNESS_REGISTER(name, is_fault)                                   \
  static void name();                                                      \
  static const harness::Register name##_registered(#name, name, is_fault); \
  static void name()
#define TEST(name) HARNESS_REGISTER(name, false)
#define FAULT(name, build, words) HARNESS_REGISTER(name, true)  // build and words: for test_faults.py, which reads them

#define EXPECT(truth, ...)                                                                    \
  do {                                                                                        \
    if (!(truth)) harness::complain(__FILE__, __LINE__, "expected " #truth "; " __VA_ARGS__); \
  } while (false)
// Ends a test that the device at hand has not the instructions for.
#define NEEDS_CAPABILITY(least)                                                              \
  do {                                                                                       \
    if (harness::capability() < (least)) {                                                   \
      std::printf("skipped: needs %d, the device has %d\n", (least), harness::capability()); \
      return;                                                                                \
    }                                                                                        \
  } while (false)
#define FINISH() harness::finish(__FILE__, __LINE__)
