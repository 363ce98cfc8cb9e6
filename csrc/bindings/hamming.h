// What the bindings of the Hamming ops share: codes, planes and labels checked as far as memory is concerned, and made
// contiguous. LibTorch Stable ABI only.
#pragma once

#include "kernels/hamming.h"

#include <optional>
#include <string>

#include "bindings/checks.h"

namespace rdh {

// Codes, and what their pointers point into.
struct HammingCodes {
  Tensor q, g;
  std::optional<Tensor> planes;
  HammingInputs inputs;

  // Without `bits`: as many as the planes have, else all of the bytes.
  HammingCodes(const char* op, const Tensor& q_, const Tensor& g_, const std::optional<Tensor>& planes_,
               std::optional<int64_t> bits = std::nullopt)
      : q(checked(op, q_)), g(checked(op, g_)), inputs{} {
    RDH_CHECK(q.size(1) == g.size(1) && q.device() == g.device(), op,
              ": q and g must be codes of one width on one device");
    const int64_t bytes = q.size(1), gallery = g.size(0);
    if (!bits.has_value()) bits = planes_.has_value() && planes_->dim() == 3 ? planes_->size(1) : 8 * bytes;
    RDH_CHECK(bytes >= 1 && bytes <= 512 && *bits > 8 * bytes - 8 && *bits <= 8 * bytes, op,
              ": codes must have 1 to 512 bytes, and bits fit them");
    if (planes_.has_value()) {
      planes = checked_planes(op, *planes_, g, *bits);
      inputs.planes = static_cast<const uint64_t*>(planes->const_data_ptr());
    }
    inputs.q = static_cast<const uint8_t*>(q.const_data_ptr());
    inputs.g = static_cast<const uint8_t*>(g.const_data_ptr());
    inputs.queries = q.size(0);
    inputs.gallery = gallery;
    inputs.bytes = bytes;
    inputs.bits = *bits;
  }

  static Tensor checked(const char* op, const Tensor& codes) {
    RDH_CHECK(codes.dim() == 2 && codes.scalar_type() == ScalarType::Byte, op, ": codes must be uint8 [rows, bytes]");
    return as_contiguous(codes, op);
  }

  static Tensor checked_planes(const char* op, const Tensor& planes, const Tensor& items, int64_t bits) {
    RDH_CHECK(planes.dim() == 3 && planes.scalar_type() == ScalarType::Long && planes.device() == items.device() &&
                  planes.size(0) == 8 * chunks_of(items.size(0)) && planes.size(1) == bits && planes.size(2) == 8,
              op, ": planes must be those of the gallery, int64 [8 * ceil(G / 4096), ", bits, ", 8], on its device");
    return as_contiguous(planes, op);
  }
};

struct HammingLabelTensors {
  Tensor q, g;
  HammingLabels labels;

  HammingLabelTensors(const char* op, const Tensor& q_, const Tensor& g_, const HammingCodes& codes)
      : q(as_contiguous(q_, op)), g(as_contiguous(g_, op)), labels{} {
    const int64_t queries = codes.inputs.queries, gallery = codes.inputs.gallery;
    RDH_CHECK(q.dim() >= 1 && q.size(0) == queries && q.device() == codes.q.device() && g.device() == codes.g.device(),
              op, ": labels must be on the device of the codes, and q_labels one per query");
    const void* of_g = g.const_data_ptr();
    if (q.dim() == 1) {
      RDH_CHECK(q.scalar_type() == ScalarType::Long && g.dim() == 1 && g.size(0) == gallery && is_id(g.scalar_type()),
                op, ": class ids must be int64 [Q] and uint8, int16, int32 or int64 [G]");
      labels.kind = LabelKind::class_ids;
      labels.q_ids = static_cast<const int64_t*>(q.const_data_ptr());
      labels.g_ids = of_g;
      labels.g_id_bytes = static_cast<int>(g.element_size());
      return;
    }
    RDH_CHECK(q.dim() == 2 && q.scalar_type() == ScalarType::Bool && q.size(1) > 0, op,
              ": multi-hot q_labels must be bool [Q, C] of at least one class");
    labels.classes = q.size(1);
    labels.q_rows = static_cast<const uint8_t*>(q.const_data_ptr());
    if (g.dim() == 3) {
      HammingCodes::checked_planes(op, g, codes.g, labels.classes);
      labels.kind = LabelKind::planes;
      labels.g_planes = static_cast<const uint64_t*>(of_g);
      return;
    }
    RDH_CHECK(
        g.dim() == 2 && g.scalar_type() == ScalarType::Bool && g.size(0) == gallery && g.size(1) == labels.classes, op,
        ": multi-hot g_labels must be bool [G, C], or their planes, with the classes of q_labels");
    labels.kind = LabelKind::multi_hot;
    labels.g_rows = static_cast<const uint8_t*>(of_g);
  }

  static bool is_id(ScalarType type) {
    return type == ScalarType::Byte || type == ScalarType::Short || type == ScalarType::Int || type == ScalarType::Long;
  }
};

// int64 [Q, bits + 1, 2], contiguous; its number of bits.
inline int64_t bits_of_histogram(const char* op, const Tensor& histogram, const Tensor& q,
                                 const char* name = "histogram") {
  RDH_CHECK(histogram.dim() == 3 && histogram.scalar_type() == ScalarType::Long && histogram.device() == q.device() &&
                histogram.size(0) == q.size(0) && histogram.size(1) >= 2 && histogram.size(2) == 2,
            op, ": ", name, " must be int64 [Q, K + 1, 2] on the device of q");
  return histogram.size(1) - 1;
}

}  // namespace rdh
