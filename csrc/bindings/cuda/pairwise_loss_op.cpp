// Registers the CUDA kernels of the pairwise loss under the schemas of rdh_ext/ops/pairwise_loss.py.

#include "bindings/pairwise_loss.h"

#include "bindings/checks.h"
#include "bindings/cuda/stream.h"

namespace rdh {
namespace {

// 100 major + 10 minor
int capability_of(int device) {
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  return 100 * major + 10 * minor;
}

cuda::Products allowed_products(Precision precision) {
  return precision == Precision::highest ? cuda::Products::exact
         : precision == Precision::high  ? cuda::Products::tf32
                                         : cuda::Products::bf16;
}

struct Backend {
  static bool are_class_ids(const int64_t*, int64_t) { return true; }  // to look would wait for the device

  static void pairwise_loss(const char* op, const PairwiseParams& params, const PairwiseInputs& inputs,
                            Precision precision, const PairwiseOutputs& outputs, const Tensor& h) {
    const DeviceGuard guard(h.get_device_index());
    const cuda::Products products =
        cuda::pairwise_loss_products(params, inputs, allowed_products(precision), capability_of(h.get_device_index()));
    const int64_t bytes = cuda::pairwise_loss_workspace(params, inputs, products);
    Tensor workspace = fresh(h, &bytes, 1, ScalarType::Byte);
    check_launch(op, cuda::launch_pairwise_loss(params, inputs, outputs, products, workspace.mutable_data_ptr(),
                                                current_stream(h)));
  }

  static void pairwise_loss_backward(const char* name, const Tensor& grad_out, const Tensor& grad, Tensor& out) {
    const DeviceGuard guard(out.get_device_index());
    check_launch(name, cuda::launch_pairwise_loss_backward(element_of(out, name), grad.const_data_ptr(),
                                                           grad_out.const_data_ptr(), out.mutable_data_ptr(),
                                                           out.numel(), current_stream(out)));
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CUDA, m) { rdh::PairwiseLossOps<rdh::Backend>::add_to(m); }
