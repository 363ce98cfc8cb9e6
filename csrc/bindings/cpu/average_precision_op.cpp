// Registers the CPU kernel of average precision under the schema of rdh_ext/ops/average_precision.py. There is none for
// CUDA: histograms are small, and evaluation takes them to the CPU.

#include "bindings/average_precision.h"

#include "bindings/cpu/parallel.h"

namespace rdh {
namespace {

struct Backend {
  static void average_precision(const int64_t* histogram, int64_t queries, int64_t bins, double* out) {
    cpu::average_precision(histogram, queries, bins, out, torch_parallel);
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CPU, m) { rdh::AveragePrecisionOps<rdh::Backend>::add_to(m); }
