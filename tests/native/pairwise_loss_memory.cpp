// The CPU kernel of the pairwise loss on inputs that end where their memory ends: random sizes, types, labels and
// options at every level of this CPU. To be built with ASan and UBSan, which watch; test_memory.py does it.
//
//     pairwise_loss_memory CASES SEED [short]     the last: with one byte less than the kernel is told, which is found

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "chance.h"
#include "common/cpu_level.h"
#include "common/element.h"
#include "kernels/pairwise_loss.h"

namespace {

using namespace rdh;

size_t bytes_of(Element element) { return element == Element::f64 ? 8 : element == Element::f32 ? 4 : 2; }

int missing_bytes = 0;

// Nothing but its elements: one byte further is an error.
std::vector<char> matrix(Random& random, int64_t n, Element element) {
  std::vector<char> memory(static_cast<size_t>(n) * bytes_of(element));
  for (int64_t i = 0; i < n; ++i) {
    const double x = random.value();
    switch (element) {
      case Element::f64:
        reinterpret_cast<double*>(memory.data())[i] = x;
        break;
      case Element::f32:
        reinterpret_cast<float*>(memory.data())[i] = static_cast<float>(x);
        break;
      case Element::bf16:
        reinterpret_cast<BFloat16*>(memory.data())[i] = narrow<BFloat16>(static_cast<float>(x));
        break;
      case Element::f16:
        reinterpret_cast<Float16*>(memory.data())[i] = narrow<Float16>(static_cast<float>(x));
        break;
    }
  }
  const size_t kept = memory.size() - std::min<size_t>(memory.size(), static_cast<size_t>(missing_bytes));
  return {memory.begin(), memory.begin() + static_cast<std::ptrdiff_t>(kept)};
}

std::vector<int64_t> class_ids(Random& random, int64_t n) {
  std::vector<int64_t> ids(static_cast<size_t>(n));
  for (int64_t& id : ids) id = random.below(5) * (random.one_in(2) ? 1 : 1000000007LL);
  return ids;
}

std::vector<uint8_t> labels(Random& random, int64_t n) {
  std::vector<uint8_t> rows(static_cast<size_t>(n));
  for (uint8_t& label : rows) label = random.one_in(9);
  return rows;
}

bool run_one(Random& random) {
  const Element any[] = {Element::f32, Element::bf16, Element::f16, Element::f64};
  const int64_t rows = random.pick({0, 1, 3, 16, 17, 63, 64, 65, 130, 300});
  const int64_t bits = random.pick({0, 1, 5, 8, 16, 31, 33, 64, 65, 100, 128});
  const bool with_itself = random.one_in(3);
  const int64_t columns = with_itself ? rows : random.pick({0, 1, 47, 48, 49, 97, 1201, 2500});
  const Element h_element = any[random.below(4)], v_element = with_itself ? h_element : any[random.below(4)];
  const std::vector<char> h = matrix(random, rows * bits, h_element), v = matrix(random, columns * bits, v_element);
  const std::vector<int64_t> row_ids = class_ids(random, rows), column_ids = class_ids(random, columns);
  const int64_t classes = random.pick({1, 7, 63, 64, 65, 128, 130});
  const std::vector<uint8_t> row_labels = labels(random, rows * classes);
  const std::vector<uint8_t> column_labels = labels(random, columns * classes);
  const int matrix_bytes = random.pick({1, 2, 4, 8});
  std::vector<char> similarity(static_cast<size_t>(rows * columns * matrix_bytes));
  for (char& byte : similarity) byte = random.one_in(12);

  const PairwiseParams params{rows,
                              columns,
                              bits,
                              0.5,
                              0.3,
                              static_cast<Quantization>(random.below(4)),
                              random.one_in(2),
                              random.one_in(2),
                              with_itself,
                              !with_itself || random.one_in(2),
                              !random.one_in(4)};
  PairwiseInputs inputs{};
  inputs.h = h.data();
  inputs.v = with_itself ? h.data() : v.data();
  inputs.h_element = h_element;
  inputs.v_element = v_element;
  inputs.similarity = static_cast<Similarity>(random.below(3));
  inputs.row_ids = row_ids.data();
  inputs.column_ids = with_itself ? row_ids.data() : column_ids.data();
  inputs.row_labels = row_labels.data();
  inputs.column_labels = with_itself ? row_labels.data() : column_labels.data();
  inputs.classes = classes;
  inputs.matrix = similarity.data();
  inputs.matrix_row = columns;
  inputs.matrix_column = 1;
  inputs.matrix_bytes = matrix_bytes;
  inputs.matrix_floating = matrix_bytes > 1 && random.one_in(2);

  double loss = 0, parts[2] = {};
  std::vector<char> gradient(static_cast<size_t>(rows * bits) * (h_element == Element::f64 ? 8 : 4));
  const PairwiseOutputs outputs{&loss, parts, params.need_grad ? gradient.data() : nullptr};
  return cpu::pairwise_loss(params, inputs, outputs, [](int64_t n, const std::function<void(int64_t)>& body) {
    for (int64_t i = n; i-- > 0;) body(i);
  });
}

}  // namespace

int main(int count, char** arguments) {
  const int cases = count > 1 ? std::atoi(arguments[1]) : 60;
  Random random(count > 2 ? static_cast<unsigned>(std::atoi(arguments[2])) : 1);
  if (count > 3) missing_bytes = 1;
  const int top = rdh_ext_supported_cpu_level();
  for (int level = 0; level <= top; ++level) {
    rdh_ext_force_cpu_level(level);
    for (int i = 0; i < cases; ++i) {
      if (!run_one(random)) return 1;
    }
  }
  std::printf("%d cases at %d levels\n", cases, top + 1);
}
