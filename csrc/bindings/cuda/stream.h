// Device, stream and launch errors for the CUDA bindings.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>

#include "bindings/checks.h"

// torch declares it behind USE_CUDA, which only its own build sets
extern "C" AOTI_TORCH_EXPORT AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace rdh {

using torch::stable::accelerator::DeviceGuard;

// PyTorch's current stream on the tensor's device.
inline void* current_stream(const Tensor& t) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
  return stream;
}

inline void check_launch(const char* op, int error) {
  RDH_CHECK(error == cudaSuccess, op, ": CUDA launch failed: ", cudaGetErrorString(static_cast<cudaError_t>(error)));
}

}  // namespace rdh
