// The op of histograms under the schema of rdh_ext/ops/hamming_histogram.py, over a Backend.
#pragma once

#include "kernels/hamming_histogram.h"

#include "bindings/hamming.h"

namespace rdh {

template <class Backend>
struct HammingHistogramOps {
  static constexpr const char* op = "hamming_histogram";

  static Tensor hamming_histogram(const Tensor& q, const Tensor& g, const Tensor& q_labels, const Tensor& g_labels,
                                  int64_t bits, const std::optional<Tensor>& planes) {
    const HammingCodes codes(op, q, g, planes, bits);
    const HammingLabelTensors labels(op, q_labels, g_labels, codes);
    const int64_t shape[] = {codes.inputs.queries, bits + 1, 2};
    Tensor out = fresh(q, shape, 3, ScalarType::Long);
    if (out.numel() > 0) {
      Backend::hamming_histogram(op, codes.inputs, labels.labels, static_cast<int64_t*>(out.mutable_data_ptr()), out);
    }
    return out;
  }

  template <class Library>
  static void add_to(Library& library) {
    library.impl("hamming_histogram", TORCH_BOX(&hamming_histogram));
  }
};

}  // namespace rdh
