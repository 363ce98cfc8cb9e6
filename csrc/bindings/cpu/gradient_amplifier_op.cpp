// Registers the amplifier's CPU kernels under the schemas of rdh_ext/ops/gradient_amplifier.py.

#include "bindings/gradient_amplifier.h"

#include <atomic>

#include "bindings/checks.h"

namespace rdh {
namespace {

// Elements per task: a multiple of every vector width, so that no task but the last has a tail, and large enough (about
// 30 us of work) that starting the task does not show.
constexpr int64_t grain = 32768;

const char* element_at(const void* p, int64_t index, int64_t bytes) {
  return static_cast<const char*>(p) + index * bytes;
}
char* element_at(void* p, int64_t index, int64_t bytes) { return static_cast<char*>(p) + index * bytes; }

struct Backend {
  static Tensor forward(Activation activation, const char* op, const Tensor& x_, double tau, double alpha,
                        double beta) {
    const Element element = element_of(x_, op);
    const Tensor x = as_contiguous(x_, op);
    Tensor h = fresh_like(x);
    const int64_t n = x.numel(), bytes = static_cast<int64_t>(x.element_size());
    const void* from = x.const_data_ptr();
    void* to = h.mutable_data_ptr();
    const AmplifierParams params = amplifier_params(activation, tau, alpha, beta);
    const bool stream = cpu::gradient_amplifier_streams(element, n);
    torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) {
      cpu::gradient_amplifier_forward(activation, element, element_at(from, begin, bytes), element_at(to, begin, bytes),
                                      end - begin, params, stream);
    });
    return h;
  }

  static std::tuple<Tensor, Tensor> backward(Activation activation, const char* op, const Tensor& grad_,
                                             const Tensor& x_, double tau, double alpha, double beta, bool count) {
    const Element element = element_of(x_, op);
    check_gradient(grad_, x_, op);
    const Tensor grad = as_contiguous(grad_, op), x = as_contiguous(x_, op);
    Tensor dx = fresh_like(x);
    const int64_t n = x.numel(), bytes = static_cast<int64_t>(x.element_size());
    const void *g = grad.const_data_ptr(), *from = x.const_data_ptr();
    void* to = dx.mutable_data_ptr();
    const AmplifierParams params = amplifier_params(activation, tau, alpha, beta);
    const bool stream = cpu::gradient_amplifier_streams(element, n);
    std::atomic<int64_t> dead{0}, saturated{0};
    torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) {
      BitCounts counts{0, 0};
      cpu::gradient_amplifier_backward(activation, element, element_at(g, begin, bytes), element_at(from, begin, bytes),
                                       element_at(to, begin, bytes), end - begin, params, count ? &counts : nullptr,
                                       stream);
      if (count) {
        dead += counts.dead;
        saturated += counts.saturated;
      }
    });
    const int64_t size = count ? 3 : 0;
    Tensor counts = fresh(x, &size, 1, ScalarType::Double);
    if (count) {
      double* c = counts.mutable_data_ptr<double>();
      c[0] = static_cast<double>(dead.load());
      c[1] = static_cast<double>(saturated.load());
      c[2] = static_cast<double>(n);
    }
    return {dx, counts};
  }
};

}  // namespace
}  // namespace rdh

STABLE_TORCH_LIBRARY_IMPL(rdh_ext, CPU, m) { rdh::GradientAmplifierOps<rdh::Backend>::add_to(m); }
