// The ops of packing under the schemas of rdh_ext/ops/pack_codes.py, over a Backend, which says whether it met NaN.
#pragma once

#include "kernels/pack_codes.h"

#include "bindings/checks.h"

namespace rdh {

template <class Backend>
struct PackCodesOps {
  static constexpr const char* op = "pack_codes";

  static Tensor pack_codes(const Tensor& h) { return packed(h, false); }
  static Tensor pack_codes_checked(const Tensor& h) { return packed(h, true); }

  template <class Library>
  static void add_to(Library& library) {
    library.impl("pack_codes", TORCH_BOX(&pack_codes));
    if constexpr (Backend::finds_nan) library.impl("pack_codes_checked", TORCH_BOX(&pack_codes_checked));
  }

 private:
  static Tensor packed(const Tensor& h_, bool refuses_nan) {
    const Element element = element_of(h_, op);
    RDH_CHECK(h_.dim() == 2, op, ": h must be [N, K]");
    const Tensor h = as_contiguous(h_, op);
    const int64_t rows = h.size(0), bits = h.size(1), shape[] = {rows, (bits + 7) / 8};
    Tensor codes = fresh(h, shape, 2, ScalarType::Byte);
    if (h.numel() > 0) {
      auto* const to = static_cast<uint8_t*>(codes.mutable_data_ptr());
      const bool has_nan = Backend::pack_codes(op, element, h.const_data_ptr(), rows, bits, to, h);
      RDH_CHECK(!(has_nan && refuses_nan), op, ": h must be free of NaN");
    }
    return codes;
  }
};

}  // namespace rdh
