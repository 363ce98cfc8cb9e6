// The op of nearest codes under the schema of rdh_ext/ops/hamming_topk.py, over a Backend.
#pragma once

#include "kernels/hamming_topk.h"

#include <tuple>

#include "bindings/hamming.h"

namespace rdh {

template <class Backend>
struct HammingTopkOps {
  static constexpr const char* op = "hamming_topk";

  static std::tuple<Tensor, Tensor> hamming_topk(const Tensor& q, const Tensor& g, int64_t k,
                                                 const std::optional<Tensor>& planes) {
    const HammingCodes codes(op, q, g, planes);
    RDH_CHECK(k >= 1, op, ": k must be at least 1");
    k = k < codes.inputs.gallery ? k : codes.inputs.gallery;
    const int64_t shape[] = {codes.inputs.queries, k};
    Tensor distances = fresh(q, shape, 2, ScalarType::Short), indices = fresh(q, shape, 2, ScalarType::Long);
    if (distances.numel() > 0) {
      Backend::hamming_topk(op, codes.inputs, k, static_cast<int16_t*>(distances.mutable_data_ptr()),
                            static_cast<int64_t*>(indices.mutable_data_ptr()), distances);
    }
    return {distances, indices};
  }

  template <class Library>
  static void add_to(Library& library) {
    library.impl("hamming_topk", TORCH_BOX(&hamming_topk));
  }
};

}  // namespace rdh
