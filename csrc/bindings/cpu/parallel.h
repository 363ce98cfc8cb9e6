// PyTorch's threads for CPU kernels.
#pragma once

#include "common/parallel.h"

#include "bindings/checks.h"

namespace rdh {

inline void torch_parallel(int64_t n, const std::function<void(int64_t)>& body) {
  torch::stable::parallel_for(0, n, 1, [&body](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

}  // namespace rdh
