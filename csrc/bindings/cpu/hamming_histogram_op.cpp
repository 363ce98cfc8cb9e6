// Registers the CPU kernel of histograms under the schema of rdh_ext/ops/hamming_histogram.py.

#include "bindings/hamming_histogram.h"

#include "bindings/cpu/parallel.h"

namespace rdh {
namespace {

struct Backend {
  static void hamming_histogram(const char* op, const HammingInputs& inputs, const HammingLabels& labels, int64_t* out,
                                const Tensor&) {
    RDH_CHECK(cpu::hamming_histogram(inputs, labels, out, torch_parallel), op, ": out of memory");
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CPU, m) { rdh::HammingHistogramOps<rdh::Backend>::add_to(m); }
