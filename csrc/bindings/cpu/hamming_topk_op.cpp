// Registers the CPU kernel of nearest codes under the schema of rdh_ext/ops/hamming_topk.py.

#include "bindings/hamming_topk.h"

#include "bindings/cpu/parallel.h"

namespace rdh {
namespace {

struct Backend {
  static void hamming_topk(const char* op, const HammingInputs& inputs, int64_t k, int16_t* distances, int64_t* indices,
                           const Tensor&) {
    RDH_CHECK(cpu::hamming_topk(inputs, k, distances, indices, torch_parallel), op, ": out of memory");
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CPU, m) { rdh::HammingTopkOps<rdh::Backend>::add_to(m); }
