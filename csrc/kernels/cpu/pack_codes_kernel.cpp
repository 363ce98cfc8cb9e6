// Computes:  signs of activations as packed bits: kernels/pack_codes.h.
// Algorithm: 64 comparisons to bytes, the bytes to a word of bits; NaN is collected in lanes on the way.
// Memory:    reads h once, writes a bit an element. Tiling: rows, some thousand elements a task.
// Numerics:  h >= 0, exactly: -0 is set, NaN is not. Limits: none.

#include "kernels/pack_codes.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <type_traits>

#include "common/cpu_level.h"
#include "common/intrinsics.h"
#include "common/target_region.h"

namespace rdh::cpu {
namespace {

#define RDH_LEVEL_BODY "kernels/cpu/pack_codes_simd.inl"
#include "common/every_bits_level.inl"
#undef RDH_LEVEL_BODY

size_t size_of(Element element) {
  return element == Element::f64 ? sizeof(double) : element == Element::f32 ? sizeof(float) : 2;
}

}  // namespace

bool pack_codes(Element element, const void* h, int64_t rows, int64_t bits, uint8_t* codes, const Parallel& parallel) {
  const int64_t each = std::max<int64_t>(1, (int64_t{1} << 18) / bits), bytes = (bits + 7) / 8;
  const auto pack = RDH_AT_LEVEL(pack);
  if (rows <= each) return pack(element, h, rows, bits, codes);  // threads would only be asked for
  std::atomic<bool> has_nan{false};
  parallel((rows + each - 1) / each, [&](int64_t index) {
    const int64_t first = index * each;
    const char* from = static_cast<const char*>(h) + first * bits * static_cast<int64_t>(size_of(element));
    if (pack(element, from, std::min(each, rows - first), bits, codes + first * bytes)) has_nan = true;
  });
  return has_nan;
}

}  // namespace rdh::cpu
