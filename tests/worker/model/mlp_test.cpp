#include "worker/model/mlp.h"

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
  return mlp(in[0], {in[1], in[2]}, {in[3], in[4]});
}
at::Tensor by_torch(const std::vector<at::Tensor>& in) {
  return at::linear(at::gelu(at::linear(in[0], in[1], in[2])), in[3], in[4]);
}
std::vector<at::Tensor> draw() {
  at::manual_seed(3);
  return {at::randn({3, 67, 40}), at::randn({72, 40}) * 0.3, at::randn({72}), at::randn({24, 72}) * 0.2,
          at::randn({24})};
}

TEST(Mlp, AndItsGradientsAreThoseOfItsParts) {
  std::vector<at::Tensor> values = draw(), exact_values;
  for (const at::Tensor& value : values) exact_values.push_back(value.to(at::kDouble));
  const Result mine = run(ours, values), exact = run(by_torch, exact_values);
  EXPECT_LT(distance(mine.output, exact.output), 5e-7);
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_LT(distance(mine.gradients[i], exact.gradients[i]), 1e-6) << i;
}

TEST(Mlp, InFloat64IsLibTorchs) {
  std::vector<at::Tensor> values = draw();
  for (at::Tensor& value : values) value = value.to(at::kDouble);
  EXPECT_TRUE(at::equal(run(ours, values).output, run(by_torch, values).output));
}

TEST(Mlp, LeavesAGradientAloneThatOthersHold) {
  std::vector<at::Tensor> in = draw();
  for (at::Tensor& value : in) value.requires_grad_();
  const at::Tensor y = ours(in), gradient = at::randn(y.sizes()), kept = gradient.clone();
  y.backward(gradient);
  EXPECT_TRUE(at::equal(gradient, kept));
}

TEST(Mlp, OfInputsThatNeedNoGradient) {
  std::vector<at::Tensor> in = draw();
  in[1].requires_grad_();
  ours(in).sum().backward();
  EXPECT_TRUE(in[1].grad().defined());
  EXPECT_FALSE(in[0].grad().defined());
  EXPECT_FALSE(in[3].grad().defined());
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
  at::Tensor slope = at::ones_like(x), d_bias = at::empty_like(x), again = at::empty_like(x);
  bias_gelu_backward(before.const_data_ptr<float>(), slope.mutable_data_ptr<float>(), 1, x.numel(),
                     d_bias.mutable_data_ptr<float>(), again.mutable_data_ptr<float>());
  EXPECT_TRUE(at::equal(again, y));
  const at::Tensor wide = x.to(at::kDouble).requires_grad_();
  at::gelu(wide).sum().backward();
  EXPECT_LT((slope - wide.grad()).abs().max().item<double>(), 4e-7);
}

/// {gelu(x + bias), gradient, bias's gradient, gelu(x + bias) once more} of 201 rows.
std::vector<at::Tensor> gelu_on_threads(int threads) {
  at::manual_seed(3);
  const std::int64_t rows = 201, width = 72;
  at::Tensor x = at::randn({rows, width}), y = at::empty_like(x), d = at::randn({rows, width}),
             d_bias = at::empty({width}), again = at::empty_like(x);
  const at::Tensor bias = at::randn({width});
  const int before = at::get_num_threads();
  at::set_num_threads(threads);
  bias_gelu(x.mutable_data_ptr<float>(), bias.const_data_ptr<float>(), rows, width,
            y.mutable_data_ptr<float>());
  bias_gelu_backward(x.const_data_ptr<float>(), d.mutable_data_ptr<float>(), rows, width,
                     d_bias.mutable_data_ptr<float>(), again.mutable_data_ptr<float>());
  at::set_num_threads(before);
  return {y, d, d_bias, again};
}

TEST(GeluKernel, GivesTheSameBitsForAnyNumberOfThreads) {
  const std::vector<at::Tensor> one = gelu_on_threads(1), three = gelu_on_threads(3);
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], three[i])) << i;
}

TEST(GeluKernel, KeepsWhatIsNotANumber) {
  at::Tensor x = at::full({16}, NAN), y = at::empty({16});
  const at::Tensor bias = at::zeros({16});
  bias_gelu(x.mutable_data_ptr<float>(), bias.const_data_ptr<float>(), 1, 16, y.mutable_data_ptr<float>());
  EXPECT_TRUE(y.isnan().all().item<bool>());
}

}  // namespace
}  // namespace cosub::model
