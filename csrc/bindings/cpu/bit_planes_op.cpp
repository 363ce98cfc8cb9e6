// Registers the CPU kernel of bit planes under the schema of rdh_ext/ops/bit_planes.py.

#include "bindings/bit_planes.h"

#include "bindings/cpu/parallel.h"

namespace rdh {
namespace {

struct Backend {
  static void bit_planes(const char*, const uint8_t* codes, int64_t rows, int64_t bytes, int64_t bits, uint64_t* planes,
                         const Tensor&) {
    cpu::bit_planes(codes, rows, bytes, bits, planes, torch_parallel);
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CPU, m) { rdh::BitPlanesOps<rdh::Backend>::add_to(m); }
