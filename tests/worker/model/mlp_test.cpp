#include "worker/model/mlp_product.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/worker/model/products.h"
#include "worker/model/gelu_kernel.h"

namespace cosub::model {
namespace {

using testing::distance;
using testing::Result;
using testing::run;

at::Tensor ours(const std::vector<at::Tensor>& in) {
  return linear_gelu(in[0], in[1], in[2]);
}
at::Tensor by_torch(const std::vector<at::Tensor>& in) {
  return at::gelu(at::linear(in[0], in[1], in[2]));
}
std::vector<at::Tensor> draw() {
  at::manual_seed(3);
  return {at::randn({3, 67, 40}), at::randn({72, 40}) * 0.3, at::randn({72})};
}

TEST(LinearGelu, AndItsGradientsAreThoseOfTheTwo) {
  std::vector<at::Tensor> values = draw(), exact_values;
  for (const at::Tensor& value : values) exact_values.push_back(value.to(at::kDouble));
  const Result mine = run(ours, values), exact = run(by_torch, exact_values);
  EXPECT_LT(distance(mine.output, exact.output), 5e-7);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_LT(distance(mine.gradients[i], exact.gradients[i]), 1e-6) << i;
}

TEST(LinearGelu, InFloat64IsLibTorchs) {
  std::vector<at::Tensor> values = draw();
  for (at::Tensor& value : values) value = value.to(at::kDouble);
  EXPECT_TRUE(at::equal(run(ours, values).output, run(by_torch, values).output));
}

TEST(LinearGelu, GivesTheSameBitsForAnyNumberOfThreads) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Result one = run(ours, draw());
  at::set_num_threads(3);
  const Result three = run(ours, draw());
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one.output, three.output));
  EXPECT_TRUE(at::equal(one.gradients[2], three.gradients[2]));
}

TEST(LinearGelu, LeavesAGradientAloneThatOthersHold) {
  std::vector<at::Tensor> in = draw();
  for (at::Tensor& value : in) value.requires_grad_();
  const at::Tensor y = ours(in), gradient = at::randn(y.sizes()), kept = gradient.clone();
  y.backward(gradient);
  EXPECT_TRUE(at::equal(gradient, kept));
}

TEST(LinearGelu, OfInputsThatNeedNoGradient) {
  std::vector<at::Tensor> in = draw();
  in[1].requires_grad_();
  ours(in).sum().backward();
  EXPECT_TRUE(in[1].grad().defined());
  EXPECT_FALSE(in[0].grad().defined());
}

/// Every float that differs: small, large, both signs, what is none.
TEST(GeluKernel, IsAccurateEverywhere) {
  const at::Tensor x = at::cat({at::linspace(-12, 12, 200'001), at::logspace(-30, 3, 1000),
                                at::tensor({0.0F, -0.0F}), -at::logspace(-30, 3, 1000)});
  at::Tensor before = x.clone(), y = at::empty_like(x);
  const at::Tensor bias = at::zeros_like(x);
  bias_gelu(before.mutable_data_ptr<float>(), bias.const_data_ptr<float>(), 1, x.numel(),
            y.mutable_data_ptr<float>());
  const at::Tensor exact = at::gelu(x.to(at::kDouble));
  EXPECT_LT(((y - exact).abs() / x.abs().clamp_min(1)).max().item<double>(), 2e-7);
  at::Tensor slope = at::ones_like(x), d_bias = at::empty_like(x);
  bias_gelu_backward(before.const_data_ptr<float>(), slope.mutable_data_ptr<float>(), 1, x.numel(),
                     d_bias.mutable_data_ptr<float>());
  const at::Tensor wide = x.to(at::kDouble).requires_grad_();
  at::gelu(wide).sum().backward();
  EXPECT_LT((slope - wide.grad()).abs().max().item<double>(), 4e-7);
}

TEST(GeluKernel, KeepsWhatIsNotANumber) {
  at::Tensor x = at::full({16}, NAN), y = at::empty({16});
  const at::Tensor bias = at::zeros({16});
  bias_gelu(x.mutable_data_ptr<float>(), bias.const_data_ptr<float>(), 1, 16, y.mutable_data_ptr<float>());
  EXPECT_TRUE(y.isnan().all().item<bool>());
}

}  // namespace
}  // namespace cosub::model
