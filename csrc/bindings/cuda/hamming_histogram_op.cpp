// Registers the CUDA kernel of histograms under the schema of rdh_ext/ops/hamming_histogram.py.

#include "bindings/hamming_histogram.h"

#include "bindings/cuda/stream.h"

namespace rdh {
namespace {

struct Backend {
  static void hamming_histogram(const char* op, const HammingInputs& inputs, const HammingLabels& labels, int64_t* out,
                                const Tensor& t) {
    const DeviceGuard guard(t.get_device_index());
    const int64_t bytes = cuda::hamming_histogram_workspace(inputs, labels);
    Tensor workspace = fresh(t, &bytes, 1, ScalarType::Byte);
    check_launch(op,
                 cuda::launch_hamming_histogram(inputs, labels, out, workspace.mutable_data_ptr(), current_stream(t)));
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CUDA, m) { rdh::HammingHistogramOps<rdh::Backend>::add_to(m); }
