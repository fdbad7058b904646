#include "tests/support/emulated_products.h"

#include <algorithm>

#include "tests/support/cuda_on_cpu.h"
#include "worker/kernels/bias_gelu.cuh"

namespace cosub::testing {
namespace {

using kernels::Bf16;

/// use(line, column, the sum over k of a(line, k) b(k, column)), for all of them.
template <class B, class Use>
void multiply(std::int64_t m, std::int64_t n, std::int64_t k, const Bf16* a, const B& b, const Use& use) {
  for (std::int64_t line = 0; line < m; ++line) {
    for (std::int64_t column = 0; column < n; ++column) {
      float sum = 0;
      for (std::int64_t i = 0; i < k; ++i)
        sum += kernels::as_float(a[line * k + i]) * kernels::as_float(b(i, column));
      use(line * n + column, column, sum);
    }
  }
}

Bf16 rounded(float x) {
  return kernels::from_float<Bf16>(x);
}

}  // namespace

void gelu_product_by_loops(const kernels::GeluProduct& a, kernels::Stream /*stream*/) {
  const auto *x = static_cast<const Bf16*>(a.a), *weight = static_cast<const Bf16*>(a.b);
  auto *y = static_cast<Bf16*>(a.y), *slope = static_cast<Bf16*>(a.slope);
  const auto b = [&](std::int64_t i, std::int64_t column) { return weight[column * a.k + i]; };
  multiply(a.m, a.n, a.k, x, b, [&](std::int64_t at, std::int64_t column, float sum) {
    const float biased = sum + a.bias[column];
    const kernels::Normal normal = kernels::normal_at<Bf16>(biased);
    y[at] = rounded(biased * normal.below);
    slope[at] = rounded(normal.below + biased * normal.density);
  });
}

void slope_product_by_loops(const kernels::SlopeProduct& a, kernels::Stream /*stream*/) {
  const auto *d = static_cast<const Bf16*>(a.a), *weight = static_cast<const Bf16*>(a.b),
             *slope = static_cast<const Bf16*>(a.slope);
  auto* d_x = static_cast<Bf16*>(a.d_x);
  const auto b = [&](std::int64_t i, std::int64_t column) { return weight[i * a.n + column]; };
  std::fill_n(a.d_bias, a.n, 0.0f);
  multiply(a.m, a.n, a.k, d, b, [&](std::int64_t at, std::int64_t column, float sum) {
    const float multiplied = sum * kernels::as_float(slope[at]);
    d_x[at] = rounded(multiplied);
    a.d_bias[column] += multiplied;
  });
}

}  // namespace cosub::testing
