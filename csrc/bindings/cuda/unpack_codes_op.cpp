// Registers the CUDA kernel of unpacking under the schema of rdh_ext/ops/unpack_codes.py.

#include "bindings/unpack_codes.h"

#include "bindings/cuda/stream.h"

namespace rdh {
namespace {

struct Backend {
  static void unpack_codes(const char* op, const uint8_t* codes, int64_t rows, int64_t bits, float* signs,
                           const Tensor& t) {
    const DeviceGuard guard(t.get_device_index());
    check_launch(op, cuda::launch_unpack_codes(codes, rows, bits, signs, current_stream(t)));
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CUDA, m) { rdh::UnpackCodesOps<rdh::Backend>::add_to(m); }
