// What every op binding shares: checks with plain messages, element types, contiguous inputs. LibTorch Stable ABI only.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <stdexcept>
#include <tuple>

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
inline Tensor as_contiguous(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

inline void check_gradient(const Tensor& grad, const Tensor& x, const char* op) {
  bool same = grad.dim() == x.dim() && grad.scalar_type() == x.scalar_type() && grad.device() == x.device();
  for (int64_t i = 0; same && i < x.dim(); ++i) same = grad.size(i) == x.size(i);
  RDH_CHECK(same, op, ": the gradient must have the shape, dtype and device of the input");
}

}  // namespace rdh
