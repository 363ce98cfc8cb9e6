// Element types as kernels see them, without torch: an enum for the seam, and two 16-bit storage types for the CPU.
#pragma once

#include <cstdint>
#include <cstring>

namespace rdh {

enum class Element { f32, f64, bf16, f16 };

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

inline uint32_t float_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float bits_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Baseline conversions, one element at a time; the vector levels have their own.
inline double widen(double value) { return value; }
inline double widen(float value) { return value; }
inline double widen(BFloat16 value) { return bits_float(static_cast<uint32_t>(value.bits) << 16); }
inline double widen(Float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1Fu;
  const uint32_t mantissa = value.bits & 0x3FFu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
  return bits_float(sign | (wide << 23) | (mantissa << 13));
}

// Round to nearest, ties to even, straight from double: no double rounding on the way.
template <typename T>
T narrow(double value);

template <>
inline double narrow<double>(double value) {
  return value;
}

template <>
inline float narrow<float>(double value) {
  return static_cast<float>(value);
}

// A 16-bit float with `mantissa` stored bits and exponent bias `bias`, from a double by integer arithmetic.
inline uint16_t narrow_bits(double value, int mantissa, int bias) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint16_t sign = static_cast<uint16_t>(bits >> 63) << 15;
  const int exponent = static_cast<int>((bits >> 52) & 0x7FF);
  const uint64_t fraction = bits & 0xFFFFFFFFFFFFFull;
  const uint16_t infinity = static_cast<uint16_t>((2u * static_cast<unsigned>(bias) + 1u) << mantissa);
  if (exponent == 0x7FF) return sign | infinity | static_cast<uint16_t>(fraction != 0 ? 1u << (mantissa - 1) : 0u);
  const int target = exponent - 1023 + bias;
  if (target > 2 * bias) return sign | infinity;
  // subnormal targets drop 1 - target more bits, and get no hidden bit in their exponent field
  const int drop = 52 - mantissa + (target < 1 ? 1 - target : 0);
  if (exponent == 0 || drop > 54) return sign;
  const uint64_t full = fraction | (1ull << 52);
  uint64_t kept = full >> drop;
  const uint64_t rest = full & ((1ull << drop) - 1);
  const uint64_t half = 1ull << (drop - 1);
  if (rest > half || (rest == half && (kept & 1))) ++kept;
  // the hidden bit adds 1 to the exponent field, so a carry out of the mantissa lands where it belongs
  const uint64_t field = target < 1 ? 0 : static_cast<uint64_t>(target - 1);
  return sign | static_cast<uint16_t>((field << mantissa) + kept);
}

template <>
inline BFloat16 narrow<BFloat16>(double value) {
  return {narrow_bits(value, 7, 127)};
}

template <>
inline Float16 narrow<Float16>(double value) {
  return {narrow_bits(value, 10, 15)};
}

}  // namespace rdh
