// The ops of the pairwise loss under the schemas of rdh_ext/ops/pairwise_loss.py, over a Backend: bindings/cpu and
// bindings/cuda have one each. What the public function has checked is checked again as far as memory is concerned.
#pragma once

#include "kernels/pairwise_loss.h"

#include <cmath>
#include <optional>
#include <string>
#include <tuple>

#include "bindings/checks.h"

namespace rdh {

// What the pointers of PairwiseInputs point into.
struct PairwiseTensors {
  Tensor h, v;
  std::optional<Tensor> row_labels, column_labels;
};

// float32 products on tensor cores: what PyTorch allows its own.
enum class Precision { highest, high, medium };

template <class Backend>
struct PairwiseLossOps {
  using Optional = std::optional<Tensor>;
  using Result = std::tuple<Tensor, Tensor, Tensor>;  // loss, parts, dL/dh or nothing
  static constexpr const char* op = "pairwise_loss";

  static Result pairwise_loss(const Tensor& h, const Optional& labels, const Optional& bank,
                              const Optional& bank_labels, const Optional& similarity, double scale,
                              std::string pair_weights, std::string quantization, double eta, bool include_diagonal,
                              std::string reduction, std::string precision, bool need_grad) {
    RDH_CHECK(std::isfinite(scale) && std::isfinite(eta) && eta >= 0, op,
              ": scale and eta must be finite, and eta at least 0");
    RDH_CHECK(include_diagonal || !bank.has_value(), op, ": include_diagonal must be true with a bank");
    PairwiseInputs inputs{};
    const PairwiseTensors tensors = check(h, labels, bank, bank_labels, similarity, inputs);
    const PairwiseParams params{h.size(0),
                                tensors.v.size(0),
                                h.size(1),
                                scale,
                                eta,
                                quantization_of(quantization),
                                one_of(pair_weights, "pair_weights", "balanced", "none"),
                                one_of(reduction, "reduction", "mean", "sum"),
                                !bank.has_value(),
                                bank.has_value() || include_diagonal,
                                need_grad};
    const ScalarType dtype = h.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
    const int64_t two = 2, nothing = 0, shape[] = {params.rows, params.bits};
    Tensor loss = fresh(h, &two, 0, dtype), parts = fresh(h, &two, 1, dtype);
    Tensor grad = need_grad ? fresh(h, shape, 2, dtype) : fresh(h, &nothing, 1, dtype);
    const PairwiseOutputs outputs{loss.mutable_data_ptr(), parts.mutable_data_ptr(),
                                  need_grad ? grad.mutable_data_ptr() : nullptr};
    Backend::pairwise_loss(op, params, inputs, precision_of(precision), outputs, tensors.h);
    return {loss, parts, grad};
  }

  static Tensor pairwise_loss_backward(const Tensor& grad_out, const Tensor& grad, const Tensor& h) {
    const char* name = "pairwise_loss_backward";
    element_of(h, name);
    const ScalarType dtype = h.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
    bool fits = grad.dim() == h.dim() && grad.scalar_type() == dtype && grad.device() == h.device() &&
                grad_out.dim() == 0 && grad_out.scalar_type() == dtype && grad_out.device() == h.device();
    for (int64_t i = 0; fits && i < h.dim(); ++i) fits = grad.size(i) == h.size(i);
    RDH_CHECK(fits, name, ": expected a gradient of the shape of h and a scalar, both ",
              torch::headeronly::toString(dtype), " on the device of h");
    Tensor out = fresh_like(h);
    Backend::pairwise_loss_backward(name, as_contiguous(grad_out, name), as_contiguous(grad, name), out);
    return out;
  }

  template <class Library>
  static void add_to(Library& library) {
    library.impl("pairwise_loss", TORCH_BOX(&pairwise_loss));
    library.impl("pairwise_loss_backward", TORCH_BOX(&pairwise_loss_backward));
  }

 private:
  static bool one_of(const std::string& value, const char* argument, const char* yes, const char* no) {
    RDH_CHECK(value == yes || value == no, op, ": ", argument, " must be '", yes, "' or '", no, "'");
    return value == yes;
  }

  static Quantization quantization_of(const std::string& value) {
    if (value == "error_aware") return Quantization::error_aware;
    if (value == "l2") return Quantization::l2;
    if (value == "log_cosh") return Quantization::log_cosh;
    RDH_CHECK(value == "none", op, ": quantization must be 'error_aware', 'l2', 'log_cosh' or 'none'");
    return Quantization::none;
  }

  static Precision precision_of(const std::string& value) {
    if (value == "high") return Precision::high;
    if (value == "medium") return Precision::medium;
    RDH_CHECK(value == "highest", op, ": precision must be 'highest', 'high' or 'medium'");
    return Precision::highest;
  }

  static PairwiseTensors check(const Tensor& h, const Optional& labels, const Optional& bank,
                               const Optional& bank_labels, const Optional& similarity, PairwiseInputs& inputs) {
    RDH_CHECK(h.dim() == 2, op, ": h must have 2 dimensions");
    PairwiseTensors t{as_contiguous(h, op), h, {}, {}};
    inputs.h_element = inputs.v_element = element_of(h, op);
    if (bank.has_value()) {
      inputs.v_element = element_of(*bank, op);
      RDH_CHECK(bank->dim() == 2 && bank->size(1) == h.size(1) && bank->device() == h.device(), op,
                ": bank must be [N, K] with the bits and the device of h");
    }
    t.v = bank.has_value() ? as_contiguous(*bank, op) : t.h;
    inputs.h = t.h.const_data_ptr();
    inputs.v = t.v.const_data_ptr();
    const int64_t rows = h.size(0), columns = t.v.size(0);
    RDH_CHECK(columns < INT32_MAX && rows < INT32_MAX, op, ": at most 2^31 - 2 rows and columns");
    RDH_CHECK(bank.has_value() || !bank_labels.has_value(), op, ": bank_labels must come with a bank");
    if (similarity.has_value()) {
      RDH_CHECK(!labels.has_value() && !bank_labels.has_value(), op, ": similarity must come without labels");
      check_matrix(*similarity, h, columns, inputs);
      return t;
    }
    RDH_CHECK(labels.has_value() && (!bank.has_value() || bank_labels.has_value()), op,
              ": labels, and bank_labels with a bank, must be given where there is no similarity");
    const bool ids = labels->dim() == 1;
    inputs.similarity = ids ? Similarity::class_ids : Similarity::multi_hot;
    t.row_labels = check_labels(*labels, h, rows, ids);
    t.column_labels = bank.has_value() ? check_labels(*bank_labels, h, columns, ids) : t.row_labels;
    const void *of_rows = t.row_labels->const_data_ptr(), *of_columns = t.column_labels->const_data_ptr();
    if (ids) {
      inputs.row_ids = static_cast<const int64_t*>(of_rows);
      inputs.column_ids = static_cast<const int64_t*>(of_columns);
      RDH_CHECK(Backend::are_class_ids(inputs.row_ids, rows) && Backend::are_class_ids(inputs.column_ids, columns), op,
                ": class ids must be at least 0");
    } else {
      inputs.classes = t.row_labels->size(1);
      RDH_CHECK(inputs.classes > 0 && inputs.classes == t.column_labels->size(1), op,
                ": labels and bank_labels must have the same classes, at least one");
      inputs.row_labels = static_cast<const uint8_t*>(of_rows);
      inputs.column_labels = static_cast<const uint8_t*>(of_columns);
    }
    return t;
  }

  static Tensor check_labels(const Tensor& labels, const Tensor& h, int64_t length, bool ids) {
    RDH_CHECK(labels.dim() == (ids ? 1 : 2) && labels.size(0) == length && labels.device() == h.device() &&
                  labels.scalar_type() == (ids ? ScalarType::Long : ScalarType::Bool),
              op, ": labels must be int64 ids, one per item, or bool rows, on the device of h");
    return as_contiguous(labels, op);
  }

  // Any strides, and any type of which some value is 0.
  static void check_matrix(const Tensor& matrix, const Tensor& h, int64_t columns, PairwiseInputs& inputs) {
    RDH_CHECK(matrix.dim() == 2 && matrix.size(0) == h.size(0) && matrix.size(1) == columns &&
                  matrix.device() == h.device() && (matrix.const_data_ptr() != nullptr || matrix.numel() == 0),
              op, ": similarity must be [B, N] on the device of h");
    const ScalarType type = matrix.scalar_type();
    inputs.similarity = Similarity::matrix;
    inputs.matrix = matrix.const_data_ptr();
    inputs.matrix_row = matrix.stride(0);
    inputs.matrix_column = matrix.stride(1);
    inputs.matrix_bytes = static_cast<int>(matrix.element_size());
    inputs.matrix_floating = type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
                             type == ScalarType::BFloat16;
    const bool integral = type == ScalarType::Bool || type == ScalarType::Byte || type == ScalarType::Char ||
                          type == ScalarType::Short || type == ScalarType::Int || type == ScalarType::Long;
    RDH_CHECK(integral || inputs.matrix_floating, op, ": similarity must be bool, an integer or a floating type, got ",
              torch::headeronly::toString(type));
  }
};

}  // namespace rdh
