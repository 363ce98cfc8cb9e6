// Registers the CUDA kernel of packing under the schema of rdh_ext/ops/pack_codes.py.

#include "bindings/pack_codes.h"

#include "bindings/cuda/stream.h"

namespace rdh {
namespace {

struct Backend {
  static constexpr bool finds_nan = false;  // the answer would have to be waited for

  static bool pack_codes(const char* op, Element element, const void* h, int64_t rows, int64_t bits, uint8_t* codes,
                         const Tensor& t) {
    const DeviceGuard guard(t.get_device_index());
    check_launch(op, cuda::launch_pack_codes(element, h, rows, bits, codes, current_stream(t)));
    return false;
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CUDA, m) { rdh::PackCodesOps<rdh::Backend>::add_to(m); }
