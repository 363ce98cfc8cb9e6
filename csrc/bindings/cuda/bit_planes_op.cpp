// Registers the CUDA kernel of bit planes under the schema of rdh_ext/ops/bit_planes.py.

#include "bindings/bit_planes.h"

#include "bindings/cuda/stream.h"

namespace rdh {
namespace {

struct Backend {
  static void bit_planes(const char* op, const uint8_t* codes, int64_t rows, int64_t bytes, int64_t bits,
                         uint64_t* planes, const Tensor& t) {
    const DeviceGuard guard(t.get_device_index());
    check_launch(op, cuda::launch_bit_planes(codes, rows, bytes, bits, planes, current_stream(t)));
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CUDA, m) { rdh::BitPlanesOps<rdh::Backend>::add_to(m); }
