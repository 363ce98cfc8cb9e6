// The op of unpacking under the schema of rdh_ext/ops/unpack_codes.py, over a Backend.
#pragma once

#include "kernels/unpack_codes.h"

#include "bindings/hamming.h"

namespace rdh {

template <class Backend>
struct UnpackCodesOps {
  static constexpr const char* op = "unpack_codes";

  static Tensor unpack_codes(const Tensor& codes_, int64_t bits) {
    const Tensor codes = HammingCodes::checked(op, codes_);
    const int64_t rows = codes.size(0), bytes = codes.size(1), shape[] = {rows, bits};
    RDH_CHECK(bits > 8 * bytes - 8 && bits <= 8 * bytes && bits >= 1, op, ": bits must fit the bytes of the codes");
    Tensor signs = fresh(codes, shape, 2, ScalarType::Float);
    if (rows > 0) {
      Backend::unpack_codes(op, static_cast<const uint8_t*>(codes.const_data_ptr()), rows, bits,
                            static_cast<float*>(signs.mutable_data_ptr()), codes);
    }
    return signs;
  }

  template <class Library>
  static void add_to(Library& library) {
    library.impl("unpack_codes", TORCH_BOX(&unpack_codes));
  }
};

}  // namespace rdh
