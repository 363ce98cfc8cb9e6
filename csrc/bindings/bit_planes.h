// The op of bit planes under the schema of rdh_ext/ops/bit_planes.py, over a Backend.
#pragma once

#include "kernels/bit_planes.h"

#include "bindings/hamming.h"

namespace rdh {

template <class Backend>
struct BitPlanesOps {
  static constexpr const char* op = "bit_planes";

  static Tensor bit_planes(const Tensor& codes_, int64_t bits) {
    const Tensor codes = HammingCodes::checked(op, codes_);
    const int64_t rows = codes.size(0), bytes = codes.size(1);
    RDH_CHECK(bits >= 1 && bits <= 8 * bytes, op, ": bits must be in [1, ", 8 * bytes, "]");
    const int64_t shape[] = {8 * chunks_of(rows), bits, 8};
    Tensor planes = fresh(codes, shape, 3, ScalarType::Long);
    if (rows > 0) {
      Backend::bit_planes(op, static_cast<const uint8_t*>(codes.const_data_ptr()), rows, bytes, bits,
                          static_cast<uint64_t*>(planes.mutable_data_ptr()), codes);
    }
    return planes;
  }

  template <class Library>
  static void add_to(Library& library) {
    library.impl("bit_planes", TORCH_BOX(&bit_planes));
  }
};

}  // namespace rdh
