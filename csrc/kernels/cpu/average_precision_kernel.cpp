// Computes:  average precision from items and relevant items per distance, ties in expectation:
//            kernels/average_precision.h.
// Algorithm: a distance with n items, r relevant, behind N items and P relevant ones adds, with H the harmonic numbers,
//            r / n ((P + 1) S0 + (r - 1) / (n - 1) S1), S0 = H(N + n) - H(N), S1 = n - (N + 1) S0.
//            Harmonic numbers up to 65,536 from a table in two parts, of which the upper is a multiple of 2^-30: then
//            their differences and the products with N + 1 are exact, and S1 loses no digits. Behind it the midpoint
//            expansion of the digamma function, log(n + 1/2) + 1/24 (n + 1/2)^-2 - ..., whose next term is below 1e-21.
// Memory:    reads 16 bytes per distance; looks up twice 16 bytes of the table, a MiB, where something is relevant.
// Tiling:    blocks of 64 queries.
// Numerics:  doubles, no contraction; four sums over the distances, so that the error stays below 1e-13 for 4,096.
//            The formulas of rdh_ext/reference/_harmonic.py.
// Limits:    fewer than 2^62 items in a row; other counts give other numbers.
// References: McSherry and Najork, ECIR 2008.

#include "kernels/average_precision.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace rdh::cpu {
namespace {

constexpr int64_t table_end = 65536, query_block = 64;

// The sums of 1 / (N + i) and of (i - 1) / (N + i) over i = 1 .. n.
struct HarmonicSums {
  double zeroth, first;
};

class HarmonicNumbers {
 public:
  HarmonicNumbers() : table_(table_end + 1) {
    int64_t a = 0, b = 0;  // in units of 2^-58 and 2^-103, below 2^62
    for (int64_t i = 0; i <= table_end; ++i) {
      if (i > 0) {
        const int64_t quotient = (int64_t{1} << 58) / i;
        a += quotient;
        b += (((int64_t{1} << 58) - quotient * i) << 45) / i;
      }
      table_[i].upper = std::ldexp(static_cast<double>(a >> 28), -30);
      table_[i].lower =
          std::ldexp(static_cast<double>(a & ((1 << 28) - 1)), -58) + std::ldexp(static_cast<double>(b), -103);
    }
  }

  HarmonicSums sums(int64_t start, int64_t n) const {
    const int64_t end = static_cast<int64_t>(static_cast<uint64_t>(start) + static_cast<uint64_t>(n));
    const int64_t low = std::clamp<int64_t>(start, 0, table_end), high = std::clamp<int64_t>(end, low, table_end);
    const int64_t inside = high - low;
    const double upper = table_[high].upper - table_[low].upper, lower = table_[high].lower - table_[low].lower;
    const double following = static_cast<double>(low) + 1;
    HarmonicSums sums{upper + lower, (static_cast<double>(inside) - following * upper) - following * lower};
    if (end > table_end) {
      const HarmonicSums behind = behind_table(static_cast<double>(std::max(start, table_end)),
                                               static_cast<double>(n) - static_cast<double>(inside));
      sums.zeroth += behind.zeroth;
      sums.first += static_cast<double>(inside) * behind.zeroth + behind.first;
    }
    return sums;
  }

 private:
  struct Number {
    double upper, lower;
  };

  // u - log1p(u) for u >= 0 without cancellation: with s = u / (2 + u), log1p(u) = 2 atanh(s).
  static double excess_of_log1p(double u) {
    if (u > 1) return u - std::log1p(u);
    const double s = u / (2 + u), square = s * s;
    double tail = 0;
    for (int k = 17; k > 0; --k) tail = (tail + 1.0 / (2 * k + 1)) * square;  // s <= 1/3: the next is below 1e-18
    return u * s - 2 * s * tail;
  }

  static HarmonicSums behind_table(double start, double n) {
    const double b = start + 0.5, a = b + n;
    const double correction = n * (a + b) / (a * a) / (b * b) / 24;  // 1/24 (b^-2 - a^-2) without a subtraction
    const double u = n / b, log = std::log1p(u);
    const double first = b * excess_of_log1p(u) - 0.5 * log + (b + 0.5) * correction;
    return {log - correction, std::max(first, 0.0)};  // one item: 0, up to rounding
  }

  std::vector<Number> table_;
};

double of_query(const HarmonicNumbers& numbers, const int64_t* counts, int64_t bins) {
  double sums[4] = {};
  uint64_t before = 0, relevant_before = 0;  // of any counts: signed sums might overflow
  for (int64_t d = 0; d < bins; ++d) {
    const int64_t n = counts[2 * d], r = counts[2 * d + 1];
    if (r > 0) {
      const HarmonicSums h = numbers.sums(static_cast<int64_t>(before), n);
      const double items = static_cast<double>(n), relevant = static_cast<double>(r);
      const double others = std::max(items - 1, 1.0);  // of one item, the second part is 0
      const double rank = static_cast<double>(static_cast<int64_t>(relevant_before)) + 1;
      sums[d % 4] += (h.zeroth * rank * others + h.first * (relevant - 1)) * relevant / (others * items);
    }
    before += static_cast<uint64_t>(n);
    relevant_before += static_cast<uint64_t>(r);
  }
  const auto all = static_cast<int64_t>(relevant_before);
  return all > 0 ? ((sums[0] + sums[1]) + (sums[2] + sums[3])) / static_cast<double>(all) : 0.0;
}

}  // namespace

void average_precision(const int64_t* histogram, int64_t queries, int64_t bins, double* out, const Parallel& parallel) {
  static const HarmonicNumbers numbers;
  const auto block = [&](int64_t index) {
    const int64_t end = std::min(queries, (index + 1) * query_block);
    for (int64_t query = index * query_block; query < end; ++query) {
      out[query] = of_query(numbers, histogram + query * bins * 2, bins);
    }
  };
  const int64_t blocks = (queries + query_block - 1) / query_block;
  if (blocks == 1) return block(0);
  if (blocks > 1) parallel(blocks, block);
}

}  // namespace rdh::cpu
