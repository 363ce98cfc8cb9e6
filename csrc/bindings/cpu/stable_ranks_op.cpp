// Registers the CPU kernels of stable ranks under the schemas of rdh_ext/ops/stable_ranks.py.

#include "bindings/stable_ranks.h"

#include "bindings/cpu/parallel.h"

namespace rdh {
namespace {

struct Backend {
  // In all rows of a histogram; -1 where some count is none.
  static int64_t relevant_items(const char*, const Tensor& histogram) {
    const int64_t* counts = static_cast<const int64_t*>(histogram.const_data_ptr());
    int64_t sum = 0;
    for (int64_t i = 0; i < histogram.numel(); i += 2) {
      if (counts[i + 1] < 0 || counts[i + 1] > counts[i]) return -1;
      sum += counts[i + 1];
    }
    return sum;
  }

  static void stable_ranks(const char* op, const HammingInputs& inputs, const HammingLabels& labels,
                           const int64_t* histogram, int64_t* ranks, const Tensor&) {
    RDH_CHECK(cpu::stable_ranks(inputs, labels, histogram, ranks, torch_parallel), op, ": out of memory");
  }

  static void stable_precision_sum(const char* op, const HammingInputs& inputs, const HammingLabels& labels,
                                   const int64_t* histogram, const int64_t* shift, int64_t limit, int64_t* sum,
                                   int64_t* found, const Tensor&) {
    RDH_CHECK(cpu::stable_precision_sum(inputs, labels, histogram, shift, limit, sum, found, torch_parallel), op,
              ": out of memory");
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CPU, m) { rdh::StableRanksOps<rdh::Backend>::add_to(m); }
