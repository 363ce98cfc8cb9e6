// The kernels of the pairwise loss against Eq. 1 and 4 written plainly in double: every instance that the launchers
// choose, every source of similarity, ragged and empty shapes, several chunks and row blocks.

#include "kernels/cuda/pairwise_loss_kernel.cu"

#include <random>

#include "harness.h"

namespace {

using harness::DeviceArray;
using namespace rdh;
using namespace rdh::cuda;

struct Case {
  Similarity similarity;
  int64_t rows, columns, bits;  // columns < 0: h with itself
  int64_t classes = 5;
  Quantization quantization = Quantization::error_aware;
  bool balanced = false, with_diagonal = true, mean = true, need_grad = true;
  Products products = Products::exact;

  bool with_itself() const { return columns < 0; }
  int64_t n() const { return with_itself() ? rows : columns; }
  PairwiseParams params() const {
    return {rows, n(), bits, 0.7, 0.3, quantization, balanced, mean, with_itself(), with_diagonal, need_grad};
  }
};

template <class T>
struct Tag;
template <>
struct Tag<float> {
  static constexpr Element element = Element::f32;
};
template <>
struct Tag<double> {
  static constexpr Element element = Element::f64;
};
template <>
struct Tag<__nv_bfloat16> {
  static constexpr Element element = Element::bf16;
};
template <>
struct Tag<__half> {
  static constexpr Element element = Element::f16;
};

double wide(double v) { return v; }
double wide(float v) { return v; }
double wide(__nv_bfloat16 v) { return __bfloat162float(v); }
double wide(__half v) { return __half2float(v); }

using Random = std::mt19937;

// Activations with exact zeros and ones among them.
template <class T>
std::vector<T> activations(int64_t n, Random& random) {
  std::normal_distribution<float> normal(0, 1);
  std::vector<T> values(static_cast<size_t>(n));
  for (T& v : values) {
    const float x = normal(random);
    v = static_cast<T>(random() % 10 != 0 ? x : random() % 2 ? 0.0f : x < 0 ? -1.0f : 1.0f);
  }
  return values;
}

// What a call gets, and S [B, N].
struct Labels {
  std::vector<int64_t> row_ids, column_ids;
  std::vector<uint8_t> rows, columns;
  std::vector<float> matrix;
  std::vector<bool> s;
};

Labels labels_of(const Case& c, Random& random) {
  Labels labels;
  const auto id = [&]() -> int64_t {  // some far apart, some in one slot of the table, some of one side only
    const int64_t k = static_cast<int64_t>(random() % static_cast<unsigned>(c.classes + 1));
    return k % 3 == 0 ? -k : k % 3 == 1 ? k << 40 : k;
  };
  const auto bit = [&]() -> uint8_t { return random() % static_cast<unsigned>(c.classes + 1) < 2 ? 1 : 0; };
  for (int64_t i = 0; i < c.rows; ++i) labels.row_ids.push_back(id());
  for (int64_t i = 0; i < c.rows * c.classes; ++i) labels.rows.push_back(bit());
  labels.column_ids = labels.row_ids;
  labels.columns = labels.rows;
  if (!c.with_itself()) {
    labels.column_ids.clear();
    labels.columns.clear();
    for (int64_t i = 0; i < c.columns; ++i) labels.column_ids.push_back(i % 7 == 6 ? -77 : id());
    for (int64_t i = 0; i < c.columns * c.classes; ++i) labels.columns.push_back(bit());
  }
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < c.n(); ++j) {
      labels.matrix.push_back(random() % 3 == 0 ? 1.0f : -0.0f);
      bool s = labels.matrix.back() != 0;
      if (c.similarity == Similarity::class_ids) s = labels.row_ids[size_t(i)] == labels.column_ids[size_t(j)];
      if (c.similarity == Similarity::multi_hot) {
        s = false;
        for (int64_t k = 0; k < c.classes; ++k) {
          s |= labels.rows[size_t(i * c.classes + k)] && labels.columns[size_t(j * c.classes + k)];
        }
      }
      labels.s.push_back(s);
    }
  }
  return labels;
}

struct Truth {
  double parts[2] = {0, 0}, loss = 0;
  std::vector<double> grad;
};

double sign(double x) { return (x > 0) - (x < 0); }

Truth truth(const Case& c, const std::vector<double>& h, const std::vector<double>& v, const std::vector<bool>& s) {
  const PairwiseParams p = c.params();
  const PairwiseFactors factors = pairwise_factors(p);
  const int64_t n = c.n(), bits = c.bits;
  Truth t;
  t.grad.resize(h.size());
  const auto counts = [&](int64_t i, int64_t j) { return p.with_diagonal || i != j; };
  double similar = 0;
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < n; ++j) similar += counts(i, j) && s[size_t(i * n + j)];
  }
  const double pairs = static_cast<double>(p.pairs());
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      if (!counts(i, j)) continue;
      const bool is = s[size_t(i * n + j)];
      const double toward = is ? -1 : 1;
      const double w = !c.balanced ? 1 : pairs / std::fmax(1, is ? similar : pairs - similar);
      double theta = 0;
      for (int64_t k = 0; k < bits; ++k) theta += p.scale * h[size_t(i * bits + k)] * v[size_t(j * bits + k)];
      const double z = toward * theta;
      t.parts[0] += w * (std::fmax(z, 0) + std::log1p(std::exp(-std::fabs(z))));
      const double g = w * toward / (1 + std::exp(-z)) * p.scale * factors.pair;
      for (int64_t k = 0; k < bits; ++k) {
        const double a = h[size_t(i * bits + k)], b = v[size_t(j * bits + k)];
        t.grad[size_t(i * bits + k)] += g * b;
        if (p.with_itself) t.grad[size_t(j * bits + k)] += g * a;
        if (c.quantization != Quantization::error_aware || -toward * sign(a) * sign(b) != 1) continue;
        t.parts[1] += (a - sign(a)) * (a - sign(a));
        t.grad[size_t(i * bits + k)] += p.eta * factors.bit * 2 * (a - sign(a));
      }
    }
  }
  for (size_t i = 0; i < h.size(); ++i) {
    const double d = h[i] - sign(h[i]), a = std::fabs(h[i]) - 1;
    if (c.quantization == Quantization::l2) {
      t.parts[1] += d * d;
      t.grad[i] += p.eta * factors.bit * 2 * d;
    } else if (c.quantization == Quantization::log_cosh) {
      t.parts[1] += std::log(std::cosh(a));
      t.grad[i] += p.eta * factors.bit * std::tanh(a) * sign(h[i]);
    }
  }
  t.parts[0] *= factors.pair;
  t.parts[1] *= factors.bit;
  t.loss = t.parts[0] + p.eta * t.parts[1];
  return t;
}

double norm(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return std::sqrt(sum);
}

// What comes back: loss, the two parts, the gradient.
template <class Real>
std::vector<Real> launch(const Case& c, const PairwiseInputs& in) {
  const PairwiseParams p = c.params();
  const size_t elements = c.need_grad ? static_cast<size_t>(c.rows * c.bits) : 0;
  const DeviceArray<double> workspace(static_cast<size_t>(pairwise_loss_workspace(p, in, c.products)) / 8);
  const DeviceArray<Real> loss(1), parts(2), grad(elements);
  const int error = launch_pairwise_loss(p, in, {loss.data(), parts.data(), c.need_grad ? grad.data() : nullptr},
                                         c.products, workspace.data(), nullptr);
  EXPECT(error == cudaSuccess, "error %d", error);
  FINISH();
  std::vector<Real> results = loss.read();
  for (const auto& more : {parts.read(), grad.read()}) results.insert(results.end(), more.begin(), more.end());
  return results;
}

// Runs a case; `spoil` may change h and v before.
template <class T, class U = T>
auto results_of(const Case& c, Truth* expected, double spoil_h = 0, double spoil_v = 0) {
  using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;
  Random random(static_cast<unsigned>(c.rows * 31 + c.bits));
  std::vector<T> h = activations<T>(c.rows * c.bits, random);
  std::vector<U> v = activations<U>(c.with_itself() ? 0 : c.columns * c.bits, random);
  const Labels labels = labels_of(c, random);
  for (const size_t i : {h.size() / 2, h.size() - 1}) {
    if (spoil_h != 0) h[i] = static_cast<T>(static_cast<float>(spoil_h));
  }
  if (spoil_v != 0) v[v.size() - 1] = static_cast<U>(static_cast<float>(spoil_v));
  const DeviceArray<T> h_(h);
  const DeviceArray<U> v_(v);
  const DeviceArray<int64_t> row_ids(labels.row_ids), column_ids(labels.column_ids);
  const DeviceArray<uint8_t> rows(labels.rows), columns(labels.columns);
  const DeviceArray<float> matrix(labels.matrix);
  const PairwiseInputs in{h_.data(),
                          c.with_itself() ? static_cast<const void*>(h_.data()) : v_.data(),
                          Tag<T>::element,
                          c.with_itself() ? Tag<T>::element : Tag<U>::element,
                          c.similarity,
                          row_ids.data(),
                          c.with_itself() ? row_ids.data() : column_ids.data(),
                          rows.data(),
                          c.with_itself() ? rows.data() : columns.data(),
                          c.similarity == Similarity::multi_hot ? c.classes : 0,
                          matrix.data(),
                          c.n(),
                          1,
                          4,
                          true};
  if (expected != nullptr) {
    std::vector<double> wide_h, wide_v;
    for (const T x : h) wide_h.push_back(wide(x));
    for (const U x : v) wide_v.push_back(wide(x));
    *expected = truth(c, wide_h, c.with_itself() ? wide_h : wide_v, labels.s);
  }
  return launch<Real>(c, in);
}

// The gradient may have a tolerance of its own.
template <class T, class U = T>
void expect_truth(const Case& c, double tolerance, double of_gradient = 0) {
  Truth t;
  const auto results = results_of<T, U>(c, &t);
  const double true_values[] = {t.loss, t.parts[0], t.parts[1]};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT(std::fabs(results[i] - true_values[i]) <= tolerance * (std::fabs(true_values[i]) + 1e-3),
           "value %zu is %.9g, not %.9g; similarity %d, %ld x %ld x %ld", i, double(results[i]), true_values[i],
           int(c.similarity), long(c.rows), long(c.columns), long(c.bits));
  }
  if (!c.need_grad) return;
  std::vector<double> wrong;
  for (size_t i = 0; i < t.grad.size(); ++i) wrong.push_back(results[3 + i] - t.grad[i]);
  EXPECT(norm(wrong) <= std::fmax(tolerance, of_gradient) * norm(t.grad) + 1e-30,
         "gradient off by %.3g; similarity %d, %ld x %ld x %ld", norm(wrong) / norm(t.grad), int(c.similarity),
         long(c.rows), long(c.columns), long(c.bits));
}

const Similarity similarities[] = {Similarity::class_ids, Similarity::multi_hot, Similarity::matrix};

TEST(what_is_not_finite_spoils_everything) {
  for (const double spoil : {double(INFINITY), double(NAN)}) {
    const Case with_itself{Similarity::class_ids, 40, -1, 16}, with_bank{Similarity::class_ids, 3, 40, 8};
    for (const float r : results_of<float>(with_itself, nullptr, spoil)) EXPECT(std::isnan(r), "got %g", double(r));
    for (const float r : results_of<float>(with_bank, nullptr, 0, spoil)) EXPECT(std::isnan(r), "got %g", double(r));
  }
}

// The tolerance of float, and of double: a few roundings, of the plain sums, too.
constexpr double narrow = 2e-6, fine = 1e-12;

TEST(small_and_empty) {
  for (const Similarity s : similarities) {
    for (const Quantization q : {Quantization::error_aware, Quantization::l2}) {
      expect_truth<float>({s, 1, -1, 1, 1, q}, narrow);
      expect_truth<float>({s, 1, -1, 4, 2, q, true, false}, narrow);
      expect_truth<float>({s, 3, 0, 4, 2, q}, narrow);
      expect_truth<float>({s, 0, 3, 4, 2, q}, narrow);
      expect_truth<float>({s, 0, -1, 4, 2, q}, narrow);
      expect_truth<float>({s, 3, 2, 0, 2, q}, narrow);
      expect_truth<double>({s, 2, 1, 3, 0, q}, fine);
    }
  }
}

// Pairs that end inside a tile, several row blocks and chunks, with all that makes pairs unlike one another.
template <class T>
void ragged(double tolerance) {
  for (const Similarity s : similarities) {
    expect_truth<T>({s, 70, 135, 6}, tolerance);
    expect_truth<T>({s, 70, -1, 5, 40, Quantization::l2}, tolerance);
    expect_truth<T>({s, 67, -1, 3, 3, Quantization::error_aware, true, false}, tolerance);
    expect_truth<T>({s, 5, 64, 66, 70, Quantization::log_cosh, true, true, false}, tolerance);
    expect_truth<T>({s, 3, 70, 140, 9, Quantization::none}, tolerance);
    expect_truth<T>({s, 100, 97, 132, 9, Quantization::none}, tolerance);  // in double, two tiles to a chunk
    expect_truth<T>({s, 9, 66, 2, 9, Quantization::error_aware, false, true, true, false}, tolerance);
  }
}

// Chunks of several tiles, of one slab, two, and more.
TEST(several_tiles_to_a_chunk) {
  expect_truth<float>({Similarity::class_ids, 200, 193, 3}, narrow);
  expect_truth<float>({Similarity::multi_hot, 200, 193, 66}, narrow);
  expect_truth<double>({Similarity::matrix, 100, 97, 70}, fine);
  expect_truth<float>({Similarity::multi_hot, 3, 600, 2}, narrow);  // of the kernel that counts agreement
}

TEST(ragged_float32) { ragged<float>(narrow); }
TEST(ragged_float64) { ragged<double>(fine); }

TEST(types_mix) {
  const Case c{Similarity::class_ids, 7, 9, 12};
  expect_truth<__nv_bfloat16>(c, narrow);
  expect_truth<__half>(c, narrow);
  expect_truth<float, double>(c, narrow);
  expect_truth<double, __nv_bfloat16>(c, fine);
  expect_truth<__half, float>(c, narrow);
}

// What comes in is exact in bfloat16, so that only G is rounded.
void on_matrix_units(Products products, double of_gradient) {
  NEEDS_CAPABILITY(800);
  using T = __nv_bfloat16;
  constexpr Quantization ea = Quantization::error_aware, l2 = Quantization::l2;
  expect_truth<T>({Similarity::class_ids, 37, 70, 40, 40, ea, false, true, true, true, products}, narrow, of_gradient);
  expect_truth<T>({Similarity::matrix, 37, -1, 64, 3, ea, true, false, true, true, products}, narrow, of_gradient);
  expect_truth<T>({Similarity::multi_hot, 17, 50, 70, 9, l2, true, true, false, true, products}, narrow, of_gradient);
  expect_truth<T>({Similarity::class_ids, 5, 65, 128, 9, l2, false, true, true, false, products}, narrow);
  expect_truth<T>({Similarity::class_ids, 140, 97, 32, 2, ea, false, true, true, true, products}, narrow, of_gradient);
  expect_truth<T>({Similarity::multi_hot, 129, 40, 36, 2, ea, false, true, true, true, products}, narrow, of_gradient);
  expect_truth<float>({Similarity::class_ids, 40, 33, 128, 2, ea, false, true, true, true, products}, 4 * of_gradient);
}

TEST(products_in_tf32) { on_matrix_units(Products::tf32, 4e-4); }
TEST(products_in_bfloat16) { on_matrix_units(Products::bf16, 3e-3); }

TEST(products_are_what_is_allowed_and_possible) {
  const auto products = [](int64_t bits, Element element, Products allowed, int capability) {
    const Case c{Similarity::class_ids, 9, 9, bits};
    PairwiseInputs in{};
    in.h_element = element;
    return pairwise_loss_products(c.params(), in, allowed, capability);
  };
  EXPECT(products(64, Element::f32, Products::tf32, 800) == Products::tf32);
  EXPECT(products(128, Element::bf16, Products::bf16, 900) == Products::bf16);
  EXPECT(products(64, Element::f32, Products::exact, 900) == Products::exact);
  EXPECT(products(64, Element::f32, Products::bf16, 750) == Products::exact);
  EXPECT(products(64, Element::f64, Products::bf16, 900) == Products::exact);
  EXPECT(products(31, Element::f32, Products::bf16, 900) == Products::exact);
  EXPECT(products(129, Element::f32, Products::bf16, 900) == Products::exact);
}

TEST(elements_of_a_matrix) {
  const std::vector<uint8_t> bytes = {0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0x80};
  const DeviceArray<uint8_t> memory(std::vector<uint8_t>{0, 0, 0, 0, 0, 0, 0, 0x80});
  const DeviceArray<float> h(std::vector<float>{0.5f, 2.0f});
  for (const int size : {1, 2, 4, 8}) {  // the last element's sign bit alone: -0.0, or the smallest integer
    for (const bool floating : {true, false}) {
      const Case c{Similarity::matrix, 1, 1, 2, 0, Quantization::none};
      const void* const last = memory.data() + 8 - size;
      const PairwiseInputs in{
          h.data(), h.data(), Element::f32, Element::f32, c.similarity, nullptr, nullptr, nullptr, nullptr, 0, last,
          1,        1,        size,         floating};
      const double theta = 0.7 * 4.25, z = floating ? theta : -theta;
      const double value = launch<float>(c, in)[0];
      EXPECT(std::fabs(value - std::log1p(std::exp(z))) < 1e-5, "%d bytes: %g", size, value);
    }
  }
}

TEST(gradient_times_a_factor) {
  const std::vector<float> from = {1.0f, -2.5f, 3e-6f};
  const DeviceArray<float> from_(from), factor(std::vector<float>{3.0f}), to(3);
  const DeviceArray<__half> to_half(3);
  launch_pairwise_loss_backward(Element::f32, from_.data(), factor.data(), to.data(), 3, nullptr);
  launch_pairwise_loss_backward(Element::f16, from_.data(), factor.data(), to_half.data(), 3, nullptr);
  FINISH();
  const DeviceArray<double> from64(std::vector<double>{1e-300, 0.1}), factor64(std::vector<double>{7.0}), to64(2);
  launch_pairwise_loss_backward(Element::f64, from64.data(), factor64.data(), to64.data(), 2, nullptr);
  launch_pairwise_loss_backward(Element::f64, from64.data(), factor64.data(), to64.data(), 0, nullptr);
  FINISH();
  for (size_t i = 0; i < 3; ++i) {
    EXPECT(to.read()[i] == from[i] * 3);
    EXPECT(wide(to_half.read()[i]) == wide(static_cast<__half>(from[i] * 3)));
  }
  EXPECT(to64.read()[0] == 1e-300 * 7.0 && to64.read()[1] == 0.1 * 7.0);
}

}  // namespace

int main(int count, char** arguments) { return harness::main(count, arguments); }
