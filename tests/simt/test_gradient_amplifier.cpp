// The amplifier's kernels against the formulas written plainly in long double: every instance that the launchers
// choose, and small blocks of which several share the counters.

#include "kernels/cuda/gradient_amplifier_kernel.cu"

#include <random>

#include "harness.h"

namespace {

using harness::DeviceArray;
using namespace rdh;
using namespace rdh::cuda;

const char* const names[] = {"float32", "float64", "bfloat16", "float16"};

template <Element Tag, int Mantissa, int Lowest>
struct Format {
  static constexpr Element element = Tag;
  static constexpr int mantissa = Mantissa, lowest = Lowest;  // stored bits; exponent of the smallest normal number
};
template <class T>
struct Type;
template <>
struct Type<float> : Format<Element::f32, 23, -126> {};
template <>
struct Type<double> : Format<Element::f64, 52, -1022> {};
template <>
struct Type<__nv_bfloat16> : Format<Element::bf16, 7, -126> {};
template <>
struct Type<__half> : Format<Element::f16, 10, -14> {};

double wide(double v) { return v; }
double wide(float v) { return v; }
double wide(__nv_bfloat16 v) { return __bfloat162float(v); }
double wide(__half v) { return __half2float(v); }

template <class T>
T narrow_to(float v) {
  return static_cast<T>(v);
}

// Distance in units of the last place of T at the true value; NaN equals NaN, infinity infinity.
template <class T>
double ulps(T got_, long double true_value) {
  const double got = wide(got_);
  if (std::isnan(true_value)) return std::isnan(got) ? 0 : 1e9;
  if (std::isinf(got) || std::isinf(true_value)) return got == static_cast<double>(true_value) ? 0 : 1e9;
  int exponent = 0;
  std::frexp(true_value, &exponent);
  const int place = std::max(exponent - 1, Type<T>::lowest) - Type<T>::mantissa;
  return static_cast<double>(std::fabs(std::ldexp(static_cast<long double>(got) - true_value, -place)));
}

struct Setting {
  Activation activation;
  double tau, alpha, beta;
  AmplifierParams params() const { return amplifier_params(activation, tau, alpha, beta); }
};

struct Truth {
  long double h, dx;
  bool dead, saturated;
};

Truth truth(const Setting& s, double x_, double g) {
  const long double x = x_, z = s.beta * x;
  Truth t{};
  long double bit = x, derivative = 1;
  if (s.activation == Activation::tanh) {
    bit = t.h = std::tanh(z);
    derivative = s.beta / (std::cosh(z) * std::cosh(z));
  } else if (s.activation == Activation::sigmoid) {
    const long double e = std::exp(-std::fabs(z));
    t.h = z < 0 ? e / (1 + e) : 1 / (1 + e);
    bit = std::tanh(z / 2);
    derivative = s.beta * e / ((1 + e) * (1 + e));
  }
  // far out the derivative is held above 0, so that an infinite gradient stays one
  if (s.activation != Activation::identity) derivative = std::fmax(derivative, 1e-400L);
  if (std::isnan(x)) t.h = derivative = s.activation == Activation::identity ? 1 : x;
  t.saturated = std::fabs(bit) >= s.tau;
  t.dead = t.saturated && bit != 0 && g * (bit < 0 ? -1.0 : 1.0) > 0;
  t.dx = (t.dead ? s.alpha : 1.0) * (g * derivative);
  return t;
}

// Logits from the flat ends to zero, and what breaks formulas; for the identity they become activations.
template <class T>
std::vector<T> inputs(size_t n, unsigned seed, bool activations) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 5);
  const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 61.0f, -43.0f, 12.0f, 1e-7f};
  std::vector<T> values(n);
  for (size_t i = 0; i < n; ++i) {
    const float v = i % 13 == 5 ? special[i / 13 % 9] : normal(random);
    values[i] = narrow_to<T>(activations && !std::isnan(v) ? std::tanh(v) : v);
  }
  return values;
}

template <class T>
void expect_forward(const Setting& s, const std::vector<T>& x, const std::vector<T>& h, const char* how) {
  for (size_t i = 0; i < x.size(); ++i) {
    const Truth t = truth(s, wide(x[i]), 1);
    EXPECT(ulps(h[i], t.h) <= 2, "%s, %s: h(%g) = %g, n %zu at %zu", names[int(Type<T>::element)], how, wide(x[i]),
           wide(h[i]), x.size(), i);
  }
}

template <class T>
void expect_backward(const Setting& s, const std::vector<T>& g, const std::vector<T>& x, const std::vector<T>& dx,
                     const std::vector<double>& counts, const char* how) {
  double dead = 0, saturated = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const Truth t = truth(s, wide(x[i]), wide(g[i]));
    dead += t.dead;
    saturated += t.saturated;
    EXPECT(ulps(dx[i], t.dx) <= 4, "%s, %s: dx(g %g, x %g) = %g, not %Lg, n %zu at %zu", names[int(Type<T>::element)],
           how, wide(g[i]), wide(x[i]), wide(dx[i]), t.dx, x.size(), i);
  }
  if (counts.empty()) return;
  EXPECT(counts[0] == dead && counts[1] == saturated && counts[2] == static_cast<double>(x.size()),
         "%s, %s: counts %g %g %g, not %g %g %zu", names[int(Type<T>::element)], how, counts[0], counts[1], counts[2],
         dead, saturated, x.size());
}

// tau such that no input of 16 bits lies at the threshold, where the plain formula would have to round as we do
const Setting settings[] = {{Activation::tanh, 0.937, 8.25, 1.3},
                            {Activation::sigmoid, 0.937, 8.25, 1.3},
                            {Activation::identity, 0.937, 8.25, 1.0}};
const size_t sizes[] = {0, 1, 7, 65, 1000, 2101};

template <class T>
void through_the_launchers() {
  for (const Setting& s : settings) {
    const bool identity = s.activation == Activation::identity;
    for (const size_t n : sizes) {
      for (const size_t offset : {0, 1}) {
        const std::vector<T> x = inputs<T>(n, 1, identity), g = inputs<T>(n, 2, false);
        const DeviceArray<T> x_(x, offset), g_(g, offset), out(n, offset);
        const int64_t count = static_cast<int64_t>(n);
        if (!identity) {
          launch_gradient_amplifier_forward(s.activation, Type<T>::element, x_.data(), out.data(), count, s.params(),
                                            nullptr);
          FINISH();
          expect_forward(s, x, out.read(), offset ? "misaligned" : "aligned");
        }
        for (const bool counted : {false, true}) {
          const DeviceArray<double> counts(std::vector<double>(counted ? 3 : 0, 0.0));
          launch_gradient_amplifier_backward(s.activation, Type<T>::element, g_.data(), x_.data(), out.data(), count,
                                             s.params(), counted ? counts.data() : nullptr, nullptr);
          FINISH();
          expect_backward(s, g, x, out.read(), counts.read(), offset ? "misaligned" : "aligned");
        }
      }
    }
  }
}

TEST(launchers_float32) { through_the_launchers<float>(); }
TEST(launchers_float64) { through_the_launchers<double>(); }
TEST(launchers_bfloat16) { through_the_launchers<__nv_bfloat16>(); }
TEST(launchers_float16) { through_the_launchers<__half>(); }

// Three blocks of two warps: each strides, all of them add to the same counters.
template <class T>
void small_blocks() {
  constexpr int threads = 64, pack = 16 / sizeof(T);
  for (const size_t n : {size_t{1}, size_t{63}, size_t{1601}}) {
    const std::vector<T> x = inputs<T>(n, 3, false), g = inputs<T>(n, 4, false);
    const DeviceArray<T> x_(x), g_(g), out(n);
    const int64_t count = static_cast<int64_t>(n);
    const Setting& s = settings[0];
    LAUNCH((forward_kernel<T, true, pack, threads>), 3, threads, 0, nullptr, x_.data(), out.data(), count,
           Activated<T, true>(s.params()));
    FINISH();
    expect_forward(s, x, out.read(), "small blocks");
    const DeviceArray<double> counts(std::vector<double>(3, 0.0));
    LAUNCH((backward_kernel<T, false, true, pack, threads>), 3, threads, 0, nullptr, g_.data(), x_.data(), out.data(),
           count, Amplified<T, false>(s.params()), counts.data());
    FINISH();
    expect_backward(s, g, x, out.read(), counts.read(), "small blocks");
  }
}

TEST(small_blocks_float32) { small_blocks<float>(); }
TEST(small_blocks_float64) { small_blocks<double>(); }
TEST(small_blocks_bfloat16) { small_blocks<__nv_bfloat16>(); }
TEST(small_blocks_float16) { small_blocks<__half>(); }

TEST(threshold_is_decided_exactly) {
  const float tau = 0.99f;
  const DeviceArray<float> h(std::vector<float>{tau, std::nextafter(tau, 0.0f)}), g(std::vector<float>{1, 1}), out(2);
  const AmplifierParams params = amplifier_params(Activation::identity, tau, 3.0, 1.0);
  launch_gradient_amplifier_backward(Activation::identity, Element::f32, g.data(), h.data(), out.data(), 2, params,
                                     nullptr, nullptr);
  FINISH();
  EXPECT(out.read()[0] == 3.0f && out.read()[1] == 1.0f);
}

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
