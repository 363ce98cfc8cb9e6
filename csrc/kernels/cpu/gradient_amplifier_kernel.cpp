// Computes:  h = tanh(beta x) or sigmoid(beta x), and dL/dx with the gradient amplifier (Eq. 3), or Eq. 3 alone; on
//            request the numbers of dead and saturated bits, from the masks that the backward has anyway.
// Algorithm: AVX-512, float: tanh and e / (1 + e)^2 as tables of polynomials, each coefficient in two registers, and no
//            division (gradient_amplifier_tables.py). AVX2, and double: exp(-rate |x|) by a base-2 reduction and a
//            minimax polynomial (simd_exp2.inl), tanh from e - 1, the derivative as a quotient. Storage types of 16
//            bits are widened to float. Two vectors at a time (simd_twice.inl): one hides the latencies of the other.
// Memory:    forward 2 n bytes-per-element, backward 3 n: gradient_amplifier_{forward,backward}_bytes. Once the tensors
//            exceed the last-level cache results are streamed past it, which saves reading the lines that are about to
//            be written. Inputs are prefetched a page ahead.
// Tiling:    one pass in memory order; the caller splits n over threads. The tail runs in a padded buffer.
// Numerics:  over every float of the relevant range, forward / gradient against float64: AVX-512 1.0 / 2.8 ulp, AVX2
//            1.7 / 3.5 ulp (benchmarks/results). An element has one formula per level, whatever its neighbours are, so
//            results do not depend on threads or alignment. Scalar: gradient_amplifier_scalar.h, in double. NaN
//            propagates; subnormals are kept.
// Limits:    beyond 252 binary orders (float; 2044 for double) below slope the derivative is held at 2^-252 (2^-2044).
//            Bound by the vector ports, not by memory, while the tensors fit a cache: 19 operations per vector forward,
//            26 backward.
// References: the paper's Eq. 3; S. Gal, An accurate elementary mathematical library (1991), for the tables' centers.

#include <unistd.h>

#include <cstring>
#include <type_traits>

#include "common/cpu_level.h"
#include "common/host_device.h"
#include "common/intrinsics.h"
#include "common/target_region.h"
#include "kernels/cpu/gradient_amplifier_scalar.h"
#include "kernels/cpu/gradient_amplifier_tables.h"
#include "kernels/gradient_amplifier.h"

namespace rdh::cpu {
namespace {

using ForwardKernel = void (*)(const void* x, void* h, int64_t n, const AmplifierParams& params, bool stream);
using BackwardKernel = void (*)(const void* grad, const void* x, void* dx, int64_t n, const AmplifierParams& params,
                                BitCounts* counts, bool stream);

// One row per element type and level.
struct Kernels {
  ForwardKernel tanh, sigmoid;
  BackwardKernel saturating, identity;
};

bool aligned_for_streaming(const void* p) { return reinterpret_cast<uintptr_t>(p) % 64 == 0; }

// All bits set is a NaN in every element type.
template <class T, size_t N>
void fill_nan(T (&values)[N]) {
  std::memset(values, 0xFF, sizeof values);
}

namespace scalar {

template <class T, bool IsTanh>
void forward(const void* x_, void* h_, int64_t n, const AmplifierParams& params, bool) {
  const ScalarFormula formula(params);
  const T* x = static_cast<const T*>(x_);
  T* h = static_cast<T*>(h_);
  for (int64_t i = 0; i < n; ++i) {
    const double v = widen(x[i]);
    h[i] = narrow<T>(IsTanh ? formula.tanh(v) : formula.sigmoid(v));
  }
}

template <class T, bool IsIdentity>
void backward(const void* grad_, const void* x_, void* dx_, int64_t n, const AmplifierParams& params, BitCounts* counts,
              bool) {
  const ScalarFormula formula(params);
  const T *grad = static_cast<const T*>(grad_), *x = static_cast<const T*>(x_);
  T* dx = static_cast<T*>(dx_);
  BitCounts sums{0, 0};
  for (int64_t i = 0; i < n; ++i) {
    const double g = widen(grad[i]), v = widen(x[i]);
    const bool dead = formula.dead(g, v);
    sums.dead += dead;
    sums.saturated += formula.saturated(v);
    dx[i] = narrow<T>(IsIdentity ? (dead ? params.alpha * g : g) : formula.gradient(g, v, dead));
  }
  if (counts != nullptr) {
    counts->dead += sums.dead;
    counts->saturated += sums.saturated;
  }
}

template <class T>
constexpr Kernels kernels_for() {
  return {forward<T, true>, forward<T, false>, backward<T, false>, backward<T, true>};
}

Kernels kernels(Element element) {
  switch (element) {
    case Element::f64:
      return kernels_for<double>();
    case Element::bf16:
      return kernels_for<BFloat16>();
    case Element::f16:
      return kernels_for<Float16>();
    default:
      return kernels_for<float>();
  }
}

}  // namespace scalar

#if RDH_X86
RDH_TARGET_AVX2_BEGIN
namespace avx2 {
#include "common/simd_avx2.inl"
#include "common/simd_exp2.inl"
#include "common/simd_twice.inl"
#include "kernels/cpu/gradient_amplifier_simd.inl"
}  // namespace avx2
RDH_TARGET_END

RDH_TARGET_AVX512_BEGIN
namespace avx512 {
#include "common/simd_avx512.inl"
#include "common/simd_exp2.inl"
#include "common/simd_twice.inl"
#include "kernels/cpu/gradient_amplifier_simd.inl"
}  // namespace avx512
RDH_TARGET_END
#endif

Kernels select(Element element) {
#if RDH_X86
  switch (active_cpu_level()) {
    case CpuLevel::avx512vpopcntdq:
    case CpuLevel::avx512:
      return avx512::kernels(element);
    case CpuLevel::avx2:
      return avx2::kernels(element);
    case CpuLevel::scalar:
      break;
  }
#endif
  return scalar::kernels(element);
}

int64_t element_bytes(Element element) {
  switch (element) {
    case Element::f64:
      return 8;
    case Element::f32:
      return 4;
    default:
      return 2;
  }
}

// Streaming pays once what was written cannot be found in the cache again anyway.
bool exceeds_cache(int64_t bytes) {
  static const int64_t cache = [] {
    const long size = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return size > 0 ? static_cast<int64_t>(size) : int64_t{32} << 20;
  }();
  return bytes > cache;
}

}  // namespace

bool gradient_amplifier_streams(Element element, int64_t n) { return exceeds_cache(2 * n * element_bytes(element)); }

void gradient_amplifier_forward(Activation activation, Element element, const void* x, void* h, int64_t n,
                                const AmplifierParams& params, bool stream) {
  const Kernels k = select(element);
  (activation == Activation::tanh ? k.tanh : k.sigmoid)(x, h, n, params, stream);
}

void gradient_amplifier_backward(Activation activation, Element element, const void* grad, const void* x, void* dx,
                                 int64_t n, const AmplifierParams& params, BitCounts* counts, bool stream) {
  const Kernels k = select(element);
  (activation == Activation::identity ? k.identity : k.saturating)(grad, x, dx, n, params, counts, stream);
}

}  // namespace rdh::cpu
