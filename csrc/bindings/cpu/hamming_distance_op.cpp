// Registers the CPU kernel of distances under the schema of rdh_ext/ops/hamming_distance.py.

#include "bindings/hamming_distance.h"

#include "bindings/cpu/parallel.h"

namespace rdh {
namespace {

struct Backend {
  static void hamming_distance(const char* op, const HammingInputs& inputs, int16_t* out, const Tensor&) {
    RDH_CHECK(cpu::hamming_distance(inputs, out, torch_parallel), op, ": out of memory");
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CPU, m) { rdh::HammingDistanceOps<rdh::Backend>::add_to(m); }
