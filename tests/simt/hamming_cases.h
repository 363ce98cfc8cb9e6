// Codes, labels and plain arithmetic for the tests of the Hamming kernels.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <random>
#include <vector>

#include "harness.h"
#include "kernels/hamming.h"

namespace hamming_cases {

using harness::DeviceArray;
using Random = std::mt19937;

// Packed codes with zeros behind their bits; with few of them different, distances repeat.
struct Codes {
  int64_t rows, bits, bytes;
  std::vector<uint8_t> data;

  Codes(int64_t rows_, int64_t bits_, Random& random, int64_t different = 1 << 30)
      : rows(rows_), bits(bits_), bytes((bits_ + 7) / 8), data(static_cast<size_t>(rows_ * bytes)) {
    for (int64_t i = 0; i < rows; ++i) {
      uint8_t* const row = data.data() + i * bytes;
      if (i >= different) {
        std::copy_n(data.data() + static_cast<int64_t>(random() % static_cast<unsigned>(different)) * bytes, bytes,
                    row);
        continue;
      }
      for (int64_t b = 0; b < bytes; ++b) row[b] = static_cast<uint8_t>(random());
      if (bits % 8 != 0) row[bytes - 1] &= static_cast<uint8_t>((1u << bits % 8) - 1);
    }
  }

  bool bit(int64_t row, int64_t k) const { return data[static_cast<size_t>(row * bytes + k / 8)] >> k % 8 & 1; }
};

inline int distance(const Codes& q, int64_t i, const Codes& g, int64_t j) {
  int sum = 0;
  for (int64_t b = 0; b < q.bytes; ++b) {
    sum += std::popcount(static_cast<uint8_t>(q.data[size_t(i * q.bytes + b)] ^ g.data[size_t(j * q.bytes + b)]));
  }
  return sum;
}

// Two sets of codes on the device, `offset` bytes off what memory is aligned to.
struct Pair {
  Random random;
  Codes q, g;
  DeviceArray<uint8_t> q_memory, g_memory;

  Pair(int64_t queries, int64_t gallery, int64_t bits, size_t offset = 0, int64_t different = 1 << 30)
      : random(static_cast<unsigned>(queries + 3 * gallery + 7 * bits)),
        q(queries, bits, random, different),
        g(gallery, bits, random, different),
        q_memory(q.data, offset),
        g_memory(g.data, offset) {}

  rdh::HammingInputs inputs() const {
    return {q_memory.data(), g_memory.data(), nullptr, q.rows, g.rows, q.bytes, q.bits};
  }
};

}  // namespace hamming_cases
