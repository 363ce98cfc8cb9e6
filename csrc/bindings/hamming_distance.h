// The op of distances under the schema of rdh_ext/ops/hamming_distance.py, over a Backend.
#pragma once

#include "kernels/hamming_distance.h"

#include "bindings/hamming.h"

namespace rdh {

template <class Backend>
struct HammingDistanceOps {
  static constexpr const char* op = "hamming_distance";

  static Tensor hamming_distance(const Tensor& q, const Tensor& g, const std::optional<Tensor>& planes) {
    const HammingCodes codes(op, q, g, planes);
    const int64_t shape[] = {codes.inputs.queries, codes.inputs.gallery};
    Tensor out = fresh(q, shape, 2, ScalarType::Short);
    if (out.numel() > 0)
      Backend::hamming_distance(op, codes.inputs, static_cast<int16_t*>(out.mutable_data_ptr()), out);
    return out;
  }

  template <class Library>
  static void add_to(Library& library) {
    library.impl("hamming_distance", TORCH_BOX(&hamming_distance));
  }
};

}  // namespace rdh
