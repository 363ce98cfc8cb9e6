// Registers the CUDA kernels of stable ranks under the schemas of rdh_ext/ops/stable_ranks.py.

#include "bindings/stable_ranks.h"

#include "bindings/cuda/stream.h"

namespace rdh {
namespace {

struct Backend {
  // In all rows of a histogram: waits for the device, because the size of the result depends on it.
  static int64_t relevant_items(const char* op, const Tensor& histogram) {
    const DeviceGuard guard(histogram.get_device_index());
    const int64_t queries = histogram.size(0), size = queries + 1;
    Tensor offsets = fresh(histogram, &size, 1, ScalarType::Long);
    int64_t* const of_queries = static_cast<int64_t*>(offsets.mutable_data_ptr());
    const auto stream = static_cast<cudaStream_t>(current_stream(histogram));
    check_launch(op, cuda::launch_relevant_items(static_cast<const int64_t*>(histogram.const_data_ptr()), queries,
                                                 histogram.size(1) - 1, of_queries, stream));
    int64_t sum = 0;
    check_launch(op, cudaMemcpyAsync(&sum, of_queries + queries, sizeof sum, cudaMemcpyDeviceToHost, stream));
    check_launch(op, cudaStreamSynchronize(stream));
    return sum;
  }

  static void stable_ranks(const char* op, const HammingInputs& inputs, const HammingLabels& labels,
                           const int64_t* histogram, int64_t* ranks, const Tensor& t) {
    const DeviceGuard guard(t.get_device_index());
    Tensor workspace = workspace_of(inputs, labels, t);
    check_launch(op, cuda::launch_stable_ranks(inputs, labels, histogram, ranks, workspace.mutable_data_ptr(),
                                               current_stream(t)));
  }

  static void stable_precision_sum(const char* op, const HammingInputs& inputs, const HammingLabels& labels,
                                   const int64_t* histogram, const int64_t* shift, int64_t limit, int64_t* sum,
                                   int64_t* found, const Tensor& t) {
    const DeviceGuard guard(t.get_device_index());
    Tensor workspace = workspace_of(inputs, labels, t);
    check_launch(op, cuda::launch_stable_precision_sum(inputs, labels, histogram, shift, limit, sum, found,
                                                       workspace.mutable_data_ptr(), current_stream(t)));
  }

 private:
  static Tensor workspace_of(const HammingInputs& inputs, const HammingLabels& labels, const Tensor& like) {
    const int64_t bytes = cuda::stable_ranks_workspace(inputs, labels);
    return fresh(like, &bytes, 1, ScalarType::Byte);
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CUDA, m) { rdh::StableRanksOps<rdh::Backend>::add_to(m); }
