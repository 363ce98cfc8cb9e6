// Registers the CPU kernel of packing under the schemas of rdh_ext/ops/pack_codes.py.

#include "bindings/pack_codes.h"

#include "bindings/cpu/parallel.h"

namespace rdh {
namespace {

struct Backend {
  static constexpr bool finds_nan = true;

  static bool pack_codes(const char*, Element element, const void* h, int64_t rows, int64_t bits, uint8_t* codes,
                         const Tensor&) {
    return cpu::pack_codes(element, h, rows, bits, codes, torch_parallel);
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CPU, m) { rdh::PackCodesOps<rdh::Backend>::add_to(m); }
