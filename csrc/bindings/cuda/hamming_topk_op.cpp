// Registers the CUDA kernel of nearest codes under the schema of rdh_ext/ops/hamming_topk.py.

#include "bindings/hamming_topk.h"

#include "bindings/cuda/stream.h"

namespace rdh {
namespace {

struct Backend {
  static void hamming_topk(const char* op, const HammingInputs& inputs, int64_t k, int16_t* distances, int64_t* indices,
                           const Tensor& t) {
    const DeviceGuard guard(t.get_device_index());
    const int64_t bytes = cuda::hamming_topk_workspace(inputs, k);
    Tensor workspace = fresh(t, &bytes, 1, ScalarType::Byte);
    check_launch(
        op, cuda::launch_hamming_topk(inputs, k, distances, indices, workspace.mutable_data_ptr(), current_stream(t)));
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CUDA, m) { rdh::HammingTopkOps<rdh::Backend>::add_to(m); }
