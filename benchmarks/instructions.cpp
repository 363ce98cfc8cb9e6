// Three small calls of the CPU kernels, always with the same inputs: what instructions.py counts the instructions of.
//
//     instructions CASE     prints "CASE level LEVEL checksum NUMBER"; integers must be equal, others about so
//
// The kernels run at the level avx2, because valgrind knows no AVX-512. Counted is what happens inside of `counted`:
// inputs, tables, the level and the checksum are made outside of it, and a first call has been there before.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>

#include "common/cpu_level.h"
#include "common/workspace.h"
#include "kernels/gradient_amplifier.h"
#include "kernels/hamming_histogram.h"
#include "kernels/pairwise_loss.h"

// Found by its name: valgrind --toggle-collect=counted.
extern "C" __attribute__((noinline)) bool counted(const std::function<bool()>& work) {
  const bool done = work();
  __asm__ volatile("" ::: "memory");  // else a jump may take the place of the call, and be left when it is
  return done;
}

namespace {

using namespace rdh;
using cpu::Workspace;

// Knuth's, the upper bits: the same numbers everywhere, which those of <random> need not be.
class Numbers {
 public:
  uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 32);
  }
  int64_t below(uint32_t n) { return next() % n; }
  float within(float bound) { return bound * (static_cast<float>(next() >> 8) * 0x1p-23f - 1.0f); }

 private:
  uint64_t state_ = 1;
};

void one_thread(int64_t n, const std::function<void(int64_t)>& body) {
  for (int64_t i = 0; i < n; ++i) body(i);
}

// Runs it once for what is made once, and once to be counted, on results that nothing has been written to yet.
template <class T>
bool run_twice(T* results, int64_t n, const std::function<bool()>& work) {
  const bool is_warm = work();
  std::memset(results, 0xFF, static_cast<size_t>(n) * sizeof(T));  // NaN, -1
  return is_warm && counted(work);
}

// Of results at other places another sum.
template <class Sum, class T>
Sum checksum(const T* results, int64_t n) {
  Sum sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<Sum>(results[i]) * static_cast<Sum>(i % 97 + 1);
  return sum;
}

void print(const char* name, double sum) { std::printf("%s level avx2 checksum %.9e\n", name, sum); }
void print(const char* name, int64_t sum) {
  std::printf("%s level avx2 checksum %lld\n", name, static_cast<long long>(sum));
}

// tanh(x), and its gradient: 256 x 64 floats, of which some are saturated.
bool amplified_tanh(const char* name) {
  constexpr int64_t n = 256 * 64;
  Workspace memory;
  float *x = nullptr, *grad = nullptr, *results = nullptr;
  memory.add(x, n);
  memory.add(grad, n);
  memory.add(results, 2 * n);
  if (!memory.allocate()) return false;
  Numbers numbers;
  for (int64_t i = 0; i < n; ++i) x[i] = numbers.within(4.0f);
  for (int64_t i = 0; i < n; ++i) grad[i] = numbers.within(1.0f);
  const AmplifierParams params = amplifier_params(Activation::tanh, 0.99, 2.0, 1.0);
  const bool done = run_twice(results, 2 * n, [&] {
    const bool stream = cpu::gradient_amplifier_streams(Element::f32, n);
    cpu::gradient_amplifier_forward(Activation::tanh, Element::f32, x, results, n, params, stream);
    cpu::gradient_amplifier_backward(Activation::tanh, Element::f32, grad, x, results + n, n, params, nullptr, stream);
    return true;
  });
  print(name, checksum<double>(results, 2 * n));
  return done;
}

// 128 rows against 1,000 of a bank, 64 bits, ids of 10 classes, error-aware, with the gradient.
bool pairwise_loss(const char* name) {
  constexpr int64_t rows = 128, columns = 1000, bits = 64;
  Workspace memory;
  float *h = nullptr, *v = nullptr, *results = nullptr;  // gradient, parts, loss
  int64_t *row_ids = nullptr, *column_ids = nullptr;
  memory.add(h, rows * bits);
  memory.add(v, columns * bits);
  memory.add(results, rows * bits + 3);
  memory.add(row_ids, rows);
  memory.add(column_ids, columns);
  if (!memory.allocate()) return false;
  Numbers numbers;
  for (int64_t i = 0; i < rows * bits; ++i) h[i] = numbers.within(1.0f);
  for (int64_t i = 0; i < columns * bits; ++i) v[i] = numbers.within(1.0f);
  for (int64_t i = 0; i < rows; ++i) row_ids[i] = numbers.below(10);
  for (int64_t i = 0; i < columns; ++i) column_ids[i] = numbers.below(10);
  const PairwiseParams params{rows, columns, bits, 0.5, 0.1, Quantization::error_aware, false, true, false, true, true};
  PairwiseInputs inputs{};
  inputs.h = h;
  inputs.v = v;
  inputs.h_element = inputs.v_element = Element::f32;
  inputs.similarity = Similarity::class_ids;
  inputs.row_ids = row_ids;
  inputs.column_ids = column_ids;
  const PairwiseOutputs outputs{results + rows * bits + 2, results + rows * bits, results};
  const bool done =
      run_twice(results, rows * bits + 3, [&] { return cpu::pairwise_loss(params, inputs, outputs, one_thread); });
  print(name, checksum<double>(results, rows * bits + 3));
  return done;
}

// 96 queries in 8,192 codes of 64 bits, ids of 10 classes, from codes alone: bit planes are made on the way.
bool hamming_histogram(const char* name) {
  constexpr int64_t queries = 96, gallery = 8192, bits = 64, bytes = bits / 8, n = queries * (bits + 1) * 2;
  Workspace memory;
  uint8_t *q = nullptr, *g = nullptr;
  int64_t *q_ids = nullptr, *g_ids = nullptr, *results = nullptr;
  memory.add(q, queries * bytes);
  memory.add(g, gallery * bytes);
  memory.add(q_ids, queries);
  memory.add(g_ids, gallery);
  memory.add(results, n);
  if (!memory.allocate()) return false;
  Numbers numbers;
  for (int64_t i = 0; i < queries * bytes; ++i) q[i] = static_cast<uint8_t>(numbers.below(256));
  for (int64_t i = 0; i < gallery * bytes; ++i) g[i] = static_cast<uint8_t>(numbers.below(256));
  for (int64_t i = 0; i < queries; ++i) q_ids[i] = numbers.below(10);
  for (int64_t i = 0; i < gallery; ++i) g_ids[i] = numbers.below(10);
  const HammingInputs inputs{q, g, nullptr, queries, gallery, bytes, bits};
  HammingLabels labels{};
  labels.kind = LabelKind::class_ids;
  labels.q_ids = q_ids;
  labels.g_ids = g_ids;
  labels.g_id_bytes = 8;
  const bool done = run_twice(results, n, [&] { return cpu::hamming_histogram(inputs, labels, results, one_thread); });
  print(name, checksum<int64_t>(results, n));
  return done;
}

struct Case {
  const char* name;
  bool (*run)(const char* name);
};

constexpr Case cases[] = {
    {"amplified_tanh", amplified_tanh}, {"pairwise_loss", pairwise_loss}, {"hamming_histogram", hamming_histogram}};

}  // namespace

int main(int count, char** arguments) {
  if (rdh_ext_force_cpu_level(static_cast<int>(CpuLevel::avx2)) == 0) {
    std::fprintf(stderr, "this CPU has no AVX2, which the instructions are counted at\n");
    return 2;
  }
  for (const Case& one : cases) {
    if (count == 2 && std::strcmp(arguments[1], one.name) == 0) return one.run(one.name) ? 0 : 1;
  }
  std::fprintf(stderr, "instructions CASE: amplified_tanh, pairwise_loss or hamming_histogram\n");
  return 2;
}
