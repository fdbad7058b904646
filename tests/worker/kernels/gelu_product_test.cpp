#include <gtest/gtest.h>

#include "tests/worker/kernels/kernel_rig.h"

namespace cosub::kernels {
namespace {

using testing::distance;

struct ProductSizes {
  std::int64_t m, n, k;
};
const std::vector<ProductSizes> kProducts = {
    {1, 136, 64}, {130, 136, 72}, {197, 256, 48}, {300, 8, 8}, {0, 64, 64}};

/// Errors are roundings to bfloat16, 2^-9 of each value at most.
constexpr double kRounding = 3e-3;

class GeluProductTest : public testing::KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (!IsSkipped() && kernels().gelu_product == nullptr)
      GTEST_SKIP() << "this GPU has not these products, or they were not built (COSUB_WITH_CUTLASS)";
  }
  at::Tensor halves(at::IntArrayRef sizes, std::int64_t seed) const {
    return numbers(sizes, seed, at::kBFloat16);
  }
  static at::Tensor exact(const at::Tensor& x) { return x.to(at::kCPU, at::kDouble); }
};

TEST_P(GeluProductTest, GivesGeluAndItsSlopeOfFloat64) {
  for (const ProductSizes& shape : kProducts) {
    const at::Tensor x = halves({shape.m, shape.k}, 1), weight = halves({shape.n, shape.k}, 2).mul_(0.25),
                     bias = numbers({shape.n}, 3), y = at::full({shape.m, shape.n}, NAN, x.options()),
                     slope = at::full_like(y, NAN);
    GeluProduct a;
    a.m = shape.m;
    a.n = shape.n;
    a.k = shape.k;
    a.a = x.const_data_ptr();
    a.b = weight.const_data_ptr();
    a.bias = bias.const_data_ptr<float>();
    a.y = y.mutable_data_ptr();
    a.slope = slope.mutable_data_ptr();
    in_any_order(y, [&] { kernels().gelu_product(a, nullptr); });
    in_any_order(slope, [&] { kernels().gelu_product(a, nullptr); });
    const at::Tensor before = (at::mm(exact(x), exact(weight).t()) + exact(bias)).requires_grad_(),
                     wanted = at::gelu(before);
    wanted.sum().backward();
    EXPECT_LT(distance(y, wanted.detach()), kRounding) << shape.m << " x " << shape.n << " x " << shape.k;
    EXPECT_LT(distance(slope, before.grad()), kRounding) << shape.m << " x " << shape.n << " x " << shape.k;
  }
}

TEST_P(GeluProductTest, MultipliesAProductWithASlopeAndSumsIt) {
  for (const ProductSizes& shape : kProducts) {
    const at::Tensor d = halves({shape.m, shape.k}, 1), weight = halves({shape.k, shape.n}, 2),
                     slope = halves({shape.m, shape.n}, 3), d_x = at::full_like(slope, NAN);
    SlopeProduct a;
    a.m = shape.m;
    a.n = shape.n;
    a.k = shape.k;
    a.a = d.const_data_ptr();
    a.b = weight.const_data_ptr();
    a.slope = slope.const_data_ptr();
    a.d_x = d_x.mutable_data_ptr();
    const at::Tensor d_bias = at::full({shape.n}, NAN, floats()),
                     between = at::full({product_tiles(shape.m), shape.n}, NAN, floats());
    a.d_bias = d_bias.mutable_data_ptr<float>();
    a.scratch = between.mutable_data_ptr<float>();
    in_any_order(d_x, [&] { kernels().slope_product(a, nullptr); });
    in_any_order(d_bias, [&] { kernels().slope_product(a, nullptr); });
    const at::Tensor wanted = at::mm(exact(d), exact(weight)) * exact(slope);
    EXPECT_LT(distance(d_x, wanted), kRounding) << shape.m << " x " << shape.n << " x " << shape.k;
    EXPECT_LT(distance(d_bias, wanted.sum(0)), 5e-5) << shape.m << " x " << shape.n << " x " << shape.k;
  }
}

COSUB_EMULATED_AND_ON_GPU(GeluProductTest);

}  // namespace
}  // namespace cosub::kernels
