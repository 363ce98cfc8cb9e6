// Computes:  as cpu/gradient_amplifier_kernel.cpp: tanh or sigmoid, dL/dx with Eq. 3, or Eq. 3 alone; optional bit
//            counts.
// Algorithm: gradient_amplifier_formula.inl in float (double for double), one element at a time.
// Memory:    forward 2 n, backward 3 n bytes-per-element; 16-byte loads where the pointers allow, else element by
//            element.
// Tiling:    256 threads, 16 bytes per thread and step; a grid that fills the device and strides.
// Numerics:  as gradient_amplifier_formula.inl: IEEE operations only, no function of the device's library, no fast
//            math; the results are those of the simulator and of AVX2. Counts: exact integers, one warp reduction
//            and at most two double atomics per warp; sums of integers below 2^53 are the same in every order, so
//            the result is deterministic.
// Limits:    n up to 2^63; no shared memory.
// References: the paper's Eq. 3.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "common/cuda_kernel.h"
#include "common/host_device.h"
#include "common/lane_one.h"
#include "kernels/gradient_amplifier.h"

namespace rdh::cuda {
namespace {

#include "common/simd_exp2.inl"
#include "kernels/gradient_amplifier_formula.inl"

template <class T>
struct Storage {
  using Real = float;
};
template <>
struct Storage<double> {
  using Real = double;
};

template <class T>
using Lane = One<typename Storage<T>::Real>;

template <class T, bool IsTanh>
using Activated = std::conditional_t<IsTanh, ExponentialTanh<Lane<T>>, Sigmoid<Lane<T>>>;

__device__ __forceinline__ float load_real(float v) { return v; }
__device__ __forceinline__ double load_real(double v) { return v; }
__device__ __forceinline__ float load_real(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float load_real(__half v) { return __half2float(v); }

template <class T>
__device__ __forceinline__ T store_real(typename Storage<T>::Real v) {
  return static_cast<T>(v);
}
template <>
__device__ __forceinline__ __nv_bfloat16 store_real<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}
template <>
__device__ __forceinline__ __half store_real<__half>(float v) {
  return __float2half_rn(v);
}

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};

template <class T, bool IsTanh, int N, int Threads>
__global__ void __launch_bounds__(Threads)
    forward_kernel(const T* __restrict__ x, T* __restrict__ h, int64_t n, Activated<T, IsTanh> f) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * Threads;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * Threads + threadIdx.x;
  for (int64_t i = first; i < n / N; i += stride) {
    const Pack<T, N> in = reinterpret_cast<const Pack<T, N>*>(x)[i];
    Pack<T, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      out.v[j] = store_real<T>(f(load_real(in.v[j])));
    }
    reinterpret_cast<Pack<T, N>*>(h)[i] = out;
  }
  const int64_t rest = n / N * N + first;
  if (rest < n) h[rest] = store_real<T>(f(load_real(x[rest])));
}

// Eq. 3 and the derivative behind it.
template <class T, bool IsIdentity>
struct Amplified {
  using S = Lane<T>;
  Amplify<S> amplify;
  std::conditional_t<IsIdentity, IdentityGradient<S>, QuotientGradient<S>> gradient;

  explicit Amplified(const AmplifierParams& p)
      : amplify(amplifier_constants<typename S::Real>(p)), gradient(p, amplifier_constants<typename S::Real>(p)) {}

  __device__ __forceinline__ T operator()(T grad, T x, int64_t& dead, int64_t& saturated) const {
    const auto g = load_real(grad), v = load_real(x);
    const bool amplified = amplify.amplified(g, v);
    dead += amplify.dead(g, amplified);
    saturated += amplify.saturated(v);
    if constexpr (!IsIdentity) {
      if (gradient.far(v)) return store_real<T>(gradient.beyond(g, v, amplified));
    }
    return store_real<T>(gradient(g, v, amplified));
  }
};

__device__ __forceinline__ void add_over_warp(int64_t value, double* sum) {
  auto v = static_cast<long long>(value);
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_down_sync(0xFFFFFFFFu, v, offset);
  if (threadIdx.x % 32 == 0 && v != 0) atomicAdd(sum, static_cast<double>(v));
}

template <class T, bool IsIdentity, bool Count, int N, int Threads>
__global__ void __launch_bounds__(Threads)
    backward_kernel(const T* __restrict__ grad, const T* __restrict__ x, T* __restrict__ dx, int64_t n,
                    Amplified<T, IsIdentity> amplified, double* counts) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * Threads;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * Threads + threadIdx.x;
  int64_t dead = 0, saturated = 0;
  for (int64_t i = first; i < n / N; i += stride) {
    const Pack<T, N> g = reinterpret_cast<const Pack<T, N>*>(grad)[i], v = reinterpret_cast<const Pack<T, N>*>(x)[i];
    Pack<T, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) out.v[j] = amplified(g.v[j], v.v[j], dead, saturated);
    reinterpret_cast<Pack<T, N>*>(dx)[i] = out;
  }
  const int64_t rest = n / N * N + first;
  if (rest < n) dx[rest] = amplified(grad[rest], x[rest], dead, saturated);
  if (Count) {
    add_over_warp(dead, counts);
    add_over_warp(saturated, counts + 1);
    if (first == 0) counts[2] += static_cast<double>(n);
  }
}

constexpr int threads = 256;

// Enough blocks for 8 per multiprocessor of the largest devices; the kernels stride over the rest.
unsigned blocks_for(int64_t packs) {
  const int64_t wanted = (packs + threads - 1) / threads;
  return static_cast<unsigned>(wanted < 1 ? 1 : wanted > 2048 ? 2048 : wanted);
}

bool aligned16(const void* a, const void* b, const void* c) {
  return (reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | reinterpret_cast<uintptr_t>(c)) % 16 == 0;
}

template <class T, int N>
void forward_as(bool is_tanh, const T* x, T* h, int64_t n, const AmplifierParams& p, cudaStream_t stream) {
  const unsigned blocks = blocks_for(n / N + N);
  if (is_tanh) {
    LAUNCH((forward_kernel<T, true, N, threads>), blocks, threads, 0, stream, x, h, n, Activated<T, true>(p));
  } else {
    LAUNCH((forward_kernel<T, false, N, threads>), blocks, threads, 0, stream, x, h, n, Activated<T, false>(p));
  }
}

template <class T, bool IsIdentity, int N>
void backward_as(const T* grad, const T* x, T* dx, int64_t n, const AmplifierParams& p, double* counts,
                 cudaStream_t stream) {
  const Amplified<T, IsIdentity> amplified(p);
  const unsigned blocks = blocks_for(n / N + N);
  if (counts != nullptr) {
    LAUNCH((backward_kernel<T, IsIdentity, true, N, threads>), blocks, threads, 0, stream, grad, x, dx, n, amplified,
           counts);
  } else {
    LAUNCH((backward_kernel<T, IsIdentity, false, N, threads>), blocks, threads, 0, stream, grad, x, dx, n, amplified,
           counts);
  }
}

template <class T>
void forward_typed(bool is_tanh, const void* x, void* h, int64_t n, const AmplifierParams& p, cudaStream_t stream) {
  constexpr int pack = 16 / sizeof(T);
  if (aligned16(x, h, h)) {
    forward_as<T, pack>(is_tanh, static_cast<const T*>(x), static_cast<T*>(h), n, p, stream);
  } else {
    forward_as<T, 1>(is_tanh, static_cast<const T*>(x), static_cast<T*>(h), n, p, stream);
  }
}

template <class T, bool IsIdentity>
void backward_typed(const void* grad_, const void* x_, void* dx_, int64_t n, const AmplifierParams& p, double* counts,
                    cudaStream_t stream) {
  constexpr int pack = 16 / sizeof(T);
  const T *grad = static_cast<const T*>(grad_), *x = static_cast<const T*>(x_);
  T* dx = static_cast<T*>(dx_);
  if (aligned16(grad, x, dx)) {
    backward_as<T, IsIdentity, pack>(grad, x, dx, n, p, counts, stream);
  } else {
    backward_as<T, IsIdentity, 1>(grad, x, dx, n, p, counts, stream);
  }
}

template <class T>
void backward_activation(Activation activation, const void* grad, const void* x, void* dx, int64_t n,
                         const AmplifierParams& p, double* counts, cudaStream_t stream) {
  if (activation == Activation::identity) {
    backward_typed<T, true>(grad, x, dx, n, p, counts, stream);
  } else {
    backward_typed<T, false>(grad, x, dx, n, p, counts, stream);
  }
}

}  // namespace

int launch_gradient_amplifier_forward(Activation activation, Element element, const void* x, void* h, int64_t n,
                                      const AmplifierParams& params, void* stream_) {
  const auto stream = static_cast<cudaStream_t>(stream_);
  const bool is_tanh = activation == Activation::tanh;
  if (n == 0) return cudaSuccess;
  if (element == Element::f64) forward_typed<double>(is_tanh, x, h, n, params, stream);
  if (element == Element::f32) forward_typed<float>(is_tanh, x, h, n, params, stream);
  if (element == Element::bf16) forward_typed<__nv_bfloat16>(is_tanh, x, h, n, params, stream);
  if (element == Element::f16) forward_typed<__half>(is_tanh, x, h, n, params, stream);
  return cudaGetLastError();
}

int launch_gradient_amplifier_backward(Activation activation, Element element, const void* grad, const void* x,
                                       void* dx, int64_t n, const AmplifierParams& params, double* counts,
                                       void* stream_) {
  const auto stream = static_cast<cudaStream_t>(stream_);
  if (n == 0) return cudaSuccess;
  if (element == Element::f64) backward_activation<double>(activation, grad, x, dx, n, params, counts, stream);
  if (element == Element::f32) backward_activation<float>(activation, grad, x, dx, n, params, counts, stream);
  if (element == Element::bf16) backward_activation<__nv_bfloat16>(activation, grad, x, dx, n, params, counts, stream);
  if (element == Element::f16) backward_activation<__half>(activation, grad, x, dx, n, params, counts, stream);
  return cudaGetLastError();
}

}  // namespace rdh::cuda
