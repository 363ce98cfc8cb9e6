// Work for peaks.cpp over the lanes of a level. Included after common/simd_<level>.inl, common/simd_twice.inl and
// kernels/cpu/pairwise_loss_formula.inl, inside a target region.

// Fused multiply-adds in as many independent chains as registers hold: no load, no store. Returns operations done.
inline double fma_block() {
  using V = F32::V;
  constexpr int chains = F32::width == 16 ? 24 : 12, steps = 2000;
  const V factor = F32::set(0.999f), term = F32::set(0.001f);  // towards 1: neither overflow nor subnormals
  V sums[chains];
#pragma GCC unroll 24
  for (int c = 0; c < chains; ++c) sums[c] = F32::set(0.1f * static_cast<float>(c + 1));
  for (int step = 0; step < steps; ++step) {
#pragma GCC unroll 24
    for (int c = 0; c < chains; ++c) sums[c] = F32::fma(sums[c], factor, term);
  }
#pragma GCC unroll 24
  for (int c = 1; c < chains; ++c) sums[0] = F32::add(sums[0], sums[c]);
  float lanes[F32::width];
  F32::store(lanes, sums[0]);
  sink = lanes[0];
  return 2.0 * F32::width * chains * steps;
}

// The elementwise part of the pairwise loss, as its kernel does it, over 64 rows x 48 columns of theta that stay in the
// first-level cache. Returns pairs done.
inline double pairs_block() {
  using L = Twice<F32>;
  constexpr int passes = 16;
  alignas(64) float theta[panel * block];
  uint64_t words[block];
  for (int i = 0; i < panel * block; ++i) theta[i] = 0.05f * static_cast<float>(i % 127 - 63);
  for (int j = 0; j < block; ++j) words[j] = 0x9E3779B97F4A7C15u * static_cast<uint64_t>(j + 1);
  double values[2 * panel] = {};
  const float weights[2] = {1, 1};
  for (int pass = 0; pass < passes; ++pass) {
    for (int vector = 0; vector * L::width < panel; ++vector) {
      const int first = vector * L::width;
      evaluate_pairs<L, false>(theta + first, words, vector, block, weights, values + first);
    }
  }
  for (const double value : values) sink = static_cast<float>(value);
  return static_cast<double>(panel) * block * passes;
}
