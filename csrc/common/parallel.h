// How CPU kernels get threads: from the caller.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace rdh::cpu {

// Runs body(0) ... body(n - 1), on as many threads as the caller likes.
using Parallel = std::function<void(int64_t n, const std::function<void(int64_t)>& body)>;

// Runs body(0) ... body(n - 1), on the caller's threads; a lack of memory in one of them is the answer.
template <class Body>
bool run_all(const Parallel& parallel, int64_t n, Body body) {
  std::atomic<bool> enough{true};
  if (n == 1) {
    enough = body(0);
  } else if (n > 1) {
    parallel(n, [&](int64_t i) {
      if (enough && !body(i)) enough = false;
    });
  }
  return enough;
}

}  // namespace rdh::cpu
