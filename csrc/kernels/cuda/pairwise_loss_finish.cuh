// Behind the pairs: the chunks' gradients added up in their order, the quantization term, and the sums. Included by
// pairwise_loss_kernel.cu, inside namespace rdh::cuda.

template <class Real>
struct BitTerm {
  double value;
  Real derivative;
};

__device__ __forceinline__ BitTerm<double> squared_distance(double distance, double selected) {
  return {selected * distance * distance, 2 * selected * distance};
}
__device__ __forceinline__ BitTerm<float> squared_distance(float distance, double selected_) {
  const float selected = static_cast<float>(selected_);
  return {selected_ * static_cast<double>(distance * distance), 2 * (selected * distance)};
}

// log cosh(d) and tanh(d): by sinh^2 near 0, where a trained bit is, and without overflow far away.
template <class Real>
__device__ __forceinline__ BitTerm<Real> log_cosh(Real distance) {
  const Real a = std::fabs(distance);
  Real value;
  if (a < 1) {
    const Real s = std::sinh(a / 2);
    value = std::log1p(2 * s * s);
  } else {
    value = a + (std::log1p(std::exp(-2 * a)) - static_cast<Real>(0.6931471805599453));
  }
  return {static_cast<double>(value), std::tanh(distance)};
}

struct BitArguments {
  const void* h;
  Element element;
  int64_t rows, bits, packed_bits, columns, chunks;
  Quantization quantization;
  bool with_diagonal;
  double pair_factor, bit_factor;  // of the gradient of the pairs, and of the bits
  const uint32_t* classes;         // [B], or null: agreement has a row for each row of h
  const int32_t *totals, *agreement;
  const uint32_t* not_finite;
};

// How many columns select bit (i, k) by Eq. 4: 1/2 (|b| sum_j |c_j| + b sum_j (2 S_j - 1) c_j), b and c being signs.
__device__ __forceinline__ double selected_columns(const BitArguments& a, int64_t row, int64_t k, int bit) {
  const int64_t own_row = a.classes == nullptr ? row : static_cast<int64_t>(a.classes[row]);
  int64_t sum = a.totals[k], nonzero = a.totals[a.bits + k], agreeing = a.agreement[own_row * a.bits + k];
  if (!a.with_diagonal) {  // of class sums, and of all columns, the row itself is a part
    sum -= bit;
    nonzero -= bit != 0;
    if (a.classes != nullptr) agreeing -= bit;
  }
  const int64_t twice = bit == 0 ? 0 : nonzero + bit * (2 * agreeing - sum);
  return 0.5 * static_cast<double>(twice);
}

// grad [B, K], unless null, and per block the sum of the quantization term: sums [blocks].
template <class Real, int Threads>
__global__ void __launch_bounds__(Threads)
    bits_kernel(BitArguments a, const Real* __restrict__ chunks, Real* grad, double* sums) {
  SHARED(double, slots, [2][Threads / 32]);
  const bool poisoned = *a.not_finite != 0;
  double sum = 0, unused = 0;
  for (int64_t i = first_item<Threads>(); i < a.rows * a.bits; i += item_step<Threads>()) {
    const int64_t row = i / a.bits, k = i - row * a.bits;
    Real from_bits = 0;
    if (a.quantization != Quantization::none) {
      const Real x = load_element<Real>(a.h, a.element, i);
      const int bit = sign_of(x);
      BitTerm<Real> term;
      if (a.quantization == Quantization::log_cosh) {
        term = log_cosh(std::fabs(x) - 1);
        term.derivative *= static_cast<Real>(bit);
      } else {
        const bool all = a.quantization == Quantization::l2;
        term = squared_distance(x - static_cast<Real>(bit), all ? 1 : selected_columns(a, row, k, bit));
      }
      sum += term.value;
      from_bits = term.derivative;
    }
    if (grad == nullptr) continue;
    double from_pairs = 0;
    for (int64_t c = 0; c < a.chunks; ++c) {
      from_pairs += static_cast<double>(chunks[(c * a.rows + row) * a.packed_bits + k]);
    }
    const double g = a.pair_factor * from_pairs + a.bit_factor * static_cast<double>(from_bits);
    grad[i] = poisoned ? static_cast<Real>(NAN) : static_cast<Real>(g);
  }
  add_over_block<Threads>(sum, unused, slots);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

struct LossArguments {
  const double *pair_sums, *bit_sums;  // [pair_blocks, 2], [bit_blocks]
  int64_t pair_blocks, bit_blocks;
  bool balanced;
  int64_t pairs;
  const unsigned long long* similar_pairs;
  double pair_factor, bit_factor, eta;
  const uint32_t* not_finite;
};

// One block: loss [1], parts [2].
template <class Real, int Threads>
__global__ void __launch_bounds__(Threads) loss_kernel(LossArguments a, Real* loss, Real* parts) {
  SHARED(double, slots, [2][Threads / 32]);
  const int me = static_cast<int>(threadIdx.x);
  const PairWeights<double> weights =
      pair_weights<double>(a.balanced, a.pairs, a.balanced ? static_cast<int64_t>(*a.similar_pairs) : 0);
  double pairs = 0, bits = 0;
  for (int64_t i = me; i < a.pair_blocks; i += Threads) {
    // no pairs of a kind: 0, also where the other's weight is without meaning
    pairs += weights.similar * a.pair_sums[2 * i] + weights.dissimilar * a.pair_sums[2 * i + 1];
  }
  for (int64_t i = me; i < a.bit_blocks; i += Threads) bits += a.bit_sums[i];
  add_over_block<Threads>(pairs, bits, slots);
  if (me != 0) return;
  const double poison = *a.not_finite != 0 ? static_cast<double>(NAN) : 0;
  pairs = pairs * a.pair_factor + poison;
  bits = bits * a.bit_factor + poison;
  *loss = static_cast<Real>(pairs + a.eta * bits);
  parts[0] = static_cast<Real>(pairs);
  parts[1] = static_cast<Real>(bits);
}

template <class Real>
__device__ __forceinline__ void store_element(Real v, void* to, Element element, int64_t at) {
  switch (element) {
    case Element::f32:
      static_cast<float*>(to)[at] = static_cast<float>(v);
      break;
    case Element::f64:
      static_cast<double*>(to)[at] = static_cast<double>(v);
      break;
    case Element::bf16:
      static_cast<__nv_bfloat16*>(to)[at] = __float2bfloat16_rn(static_cast<float>(v));
      break;
    default:
      static_cast<__half*>(to)[at] = __float2half_rn(static_cast<float>(v));
  }
}

// to = from * factor, rounded once
template <class Real, int Threads>
__global__ void __launch_bounds__(Threads)
    scaled_gradient_kernel(const Real* __restrict__ from, const Real* __restrict__ factor, void* to, Element element,
                           int64_t n) {
  for (int64_t i = first_item<Threads>(); i < n; i += item_step<Threads>()) {
    store_element(from[i] * *factor, to, element, i);
  }
}
