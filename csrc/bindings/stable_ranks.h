// The ops of stable ranks under the schemas of rdh_ext/ops/stable_ranks.py, over a Backend.
#pragma once

#include "kernels/stable_ranks.h"

#include <tuple>

#include "bindings/hamming.h"

namespace rdh {

template <class Backend>
struct StableRanksOps {
  using Optional = std::optional<Tensor>;

  static Tensor stable_ranks(const Tensor& q, const Tensor& g, const Tensor& q_labels, const Tensor& g_labels,
                             const Tensor& histogram_, const Optional& planes) {
    const char* op = "stable_ranks";
    const HammingCodes codes(op, q, g, planes, bits_of_histogram(op, histogram_, q));
    const HammingLabelTensors labels(op, q_labels, g_labels, codes);
    const Tensor histogram = as_contiguous(histogram_, op);
    const int64_t size = Backend::relevant_items(op, histogram);
    RDH_CHECK(size >= 0, op, ": histogram must hold counts");
    Tensor ranks = fresh(q, &size, 1, ScalarType::Long);
    if (size > 0) {
      Backend::stable_ranks(op, codes.inputs, labels.labels, static_cast<const int64_t*>(histogram.const_data_ptr()),
                            static_cast<int64_t*>(ranks.mutable_data_ptr()), ranks);
    }
    return ranks;
  }

  static std::tuple<Tensor, Tensor> stable_precision_sum(const Tensor& q, const Tensor& g, const Tensor& q_labels,
                                                         const Tensor& g_labels, const Tensor& histogram_,
                                                         int64_t limit, const Optional& shift_,
                                                         const Optional& planes) {
    const char* op = "stable_precision_sum";
    const HammingCodes codes(op, q, g, planes, bits_of_histogram(op, histogram_, q));
    const HammingLabelTensors labels(op, q_labels, g_labels, codes);
    const Tensor histogram = as_contiguous(histogram_, op);
    if (shift_) {
      RDH_CHECK(bits_of_histogram(op, *shift_, q, "shift") == codes.inputs.bits, op,
                ": shift must be shaped like histogram");
    }
    const Tensor shift = as_contiguous(shift_ ? *shift_ : histogram_, op);
    const int64_t size[] = {codes.inputs.queries, 3};
    Tensor sum = fresh(q, size, 2, ScalarType::Long);
    Tensor found = fresh(q, &codes.inputs.queries, 1, ScalarType::Long);
    if (codes.inputs.queries > 0) {
      Backend::stable_precision_sum(
          op, codes.inputs, labels.labels, static_cast<const int64_t*>(histogram.const_data_ptr()),
          shift_ ? static_cast<const int64_t*>(shift.const_data_ptr()) : nullptr, limit,
          static_cast<int64_t*>(sum.mutable_data_ptr()), static_cast<int64_t*>(found.mutable_data_ptr()), sum);
    }
    return {sum, found};
  }

  template <class Library>
  static void add_to(Library& library) {
    library.impl("stable_ranks", TORCH_BOX(&stable_ranks));
    library.impl("stable_precision_sum", TORCH_BOX(&stable_precision_sum));
  }
};

}  // namespace rdh
