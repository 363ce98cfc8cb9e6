// Registers the CUDA kernel of distances under the schema of rdh_ext/ops/hamming_distance.py.

#include "bindings/hamming_distance.h"

#include "bindings/cuda/stream.h"

namespace rdh {
namespace {

struct Backend {
  static void hamming_distance(const char* op, const HammingInputs& inputs, int16_t* out, const Tensor& t) {
    const DeviceGuard guard(t.get_device_index());
    check_launch(op, cuda::launch_hamming_distance(inputs, out, current_stream(t)));
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CUDA, m) { rdh::HammingDistanceOps<rdh::Backend>::add_to(m); }
