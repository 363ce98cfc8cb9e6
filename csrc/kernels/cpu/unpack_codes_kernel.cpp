// Computes:  packed bits as signs: kernels/unpack_codes.h.
// Algorithm: a byte chooses one of 256 rows of eight signs.
// Memory:    reads a bit and writes four bytes an element, which is what it takes its time for. Tiling: rows, some
//            thousand elements a task. Numerics: exact. Limits: none. One level: copies are all there is.

#include "kernels/unpack_codes.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace rdh::cpu {
namespace {

using Eight = std::array<float, 8>;

std::array<Eight, 256> make_signs() {
  std::array<Eight, 256> signs{};
  for (int byte = 0; byte < 256; ++byte) {
    for (int place = 0; place < 8; ++place) signs[byte][place] = (byte >> place & 1) != 0 ? 1.0f : -1.0f;
  }
  return signs;
}

}  // namespace

void unpack_codes(const uint8_t* codes, int64_t rows, int64_t bits, float* signs, const Parallel& parallel) {
  static const std::array<Eight, 256> of_byte = make_signs();
  const int64_t each = std::max<int64_t>(1, (int64_t{1} << 18) / bits), bytes = (bits + 7) / 8;
  parallel((rows + each - 1) / each, [&](int64_t index) {
    const int64_t end = std::min(rows, (index + 1) * each);
    for (int64_t row = index * each; row < end; ++row) {
      const uint8_t* code = codes + row * bytes;
      float* to = signs + row * bits;
      for (int64_t byte = 0; byte < bits / 8; ++byte) std::memcpy(to + 8 * byte, of_byte[code[byte]].data(), 32);
      if (bits % 8 != 0) {
        std::memcpy(to + bits / 8 * 8, of_byte[code[bytes - 1]].data(), static_cast<size_t>(bits % 8) * sizeof(float));
      }
    }
  });
}

}  // namespace rdh::cpu
