// Registers the CPU kernel of unpacking under the schema of rdh_ext/ops/unpack_codes.py.

#include "bindings/unpack_codes.h"

#include "bindings/cpu/parallel.h"

namespace rdh {
namespace {

struct Backend {
  static void unpack_codes(const char*, const uint8_t* codes, int64_t rows, int64_t bits, float* signs, const Tensor&) {
    cpu::unpack_codes(codes, rows, bits, signs, torch_parallel);
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CPU, m) { rdh::UnpackCodesOps<rdh::Backend>::add_to(m); }
