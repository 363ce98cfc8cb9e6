// How CPU kernels get threads: from the caller.
#pragma once

#include <cstdint>
#include <functional>

namespace rdh::cpu {

// Runs body(0) ... body(n - 1), on as many threads as the caller likes.
using Parallel = std::function<void(int64_t n, const std::function<void(int64_t)>& body)>;

}  // namespace rdh::cpu
