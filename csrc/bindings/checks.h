// What every op binding shares: checks with plain messages, element types, contiguous inputs. LibTorch Stable ABI only.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <stdexcept>
#include <tuple>
#include <vector>

#include "common/element.h"

// STD_TORCH_CHECK puts the path of the source file into the message; this one does not.
#define RDH_CHECK(condition, ...)                                                                                   \
  do {                                                                                                              \
    if (!(condition)) throw std::runtime_error(::torch::headeronly::detail::stdTorchCheckMsgImpl("", __VA_ARGS__)); \
  } while (0)

namespace rdh {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline Element element_of(const Tensor& t, const char* op) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
      return Element::f32;
    case ScalarType::Double:
      return Element::f64;
    case ScalarType::BFloat16:
      return Element::bf16;
    case ScalarType::Half:
      return Element::f16;
    default:
      RDH_CHECK(false, op, ": expected float32, float64, bfloat16 or float16, got ",
                torch::headeronly::toString(t.scalar_type()));
  }
  return Element::f32;
}

// Every call of a stable op is a look-up by name in the dispatcher, so it is skipped where nothing has to be done.
// A tensor whose storage was given back (as sharded training does between uses) still has its size, and no memory.
inline Tensor as_contiguous(const Tensor& t, const char* op) {
  RDH_CHECK(t.const_data_ptr() != nullptr || t.numel() == 0, op, ": the memory of the input has been freed");
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

// A fresh contiguous tensor on the device of `like`; through the C function, which needs no look-up either.
inline Tensor fresh(const Tensor& like, const int64_t* sizes, int64_t dimensions, ScalarType dtype) {
  int64_t small[8];
  std::vector<int64_t> large(dimensions > 8 ? dimensions : 0);
  int64_t* strides = dimensions > 8 ? large.data() : small;
  int64_t stride = 1;
  for (int64_t i = dimensions - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= sizes[i] > 0 ? sizes[i] : 1;
  }
  int32_t device_type = 0;
  AtenTensorHandle handle = nullptr;
  RDH_CHECK(aoti_torch_get_device_type(like.get(), &device_type) == 0 &&
                aoti_torch_empty_strided(dimensions, sizes, strides, static_cast<int32_t>(dtype), device_type,
                                         like.get_device_index(), &handle) == 0,
            "out of memory: no room for a tensor of ", stride, " elements of ", torch::headeronly::toString(dtype));
  return Tensor(handle);
}

inline Tensor fresh_like(const Tensor& t) { return fresh(t, t.sizes().data(), t.dim(), t.scalar_type()); }

inline void check_gradient(const Tensor& grad, const Tensor& x, const char* op) {
  bool same = grad.dim() == x.dim() && grad.scalar_type() == x.scalar_type() && grad.device() == x.device();
  for (int64_t i = 0; same && i < x.dim(); ++i) same = grad.size(i) == x.size(i);
  RDH_CHECK(same, op, ": the gradient must have the shape, dtype and device of the input");
}

}  // namespace rdh
