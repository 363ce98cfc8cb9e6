// The op of average precision under the schema of rdh_ext/ops/average_precision.py, over a Backend.
#pragma once

#include "kernels/average_precision.h"

#include "bindings/checks.h"

namespace rdh {

template <class Backend>
struct AveragePrecisionOps {
  static constexpr const char* op = "average_precision";

  static Tensor average_precision(const Tensor& histogram_) {
    RDH_CHECK(histogram_.scalar_type() == ScalarType::Long && histogram_.dim() == 3 && histogram_.size(2) == 2, op,
              ": histogram must be int64 [Q, K + 1, 2]");
    const Tensor histogram = as_contiguous(histogram_, op);
    const int64_t queries = histogram.size(0);
    Tensor out = fresh(histogram, &queries, 1, ScalarType::Double);
    Backend::average_precision(static_cast<const int64_t*>(histogram.const_data_ptr()), queries, histogram.size(1),
                               static_cast<double*>(out.mutable_data_ptr()));
    return out;
  }

  template <class Library>
  static void add_to(Library& library) {
    library.impl("average_precision", TORCH_BOX(&average_precision));
  }
};

}  // namespace rdh
