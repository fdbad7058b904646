#include "worker/model/row_split.h"

#include <gtest/gtest.h>

namespace cosub::model {
namespace {

using Rows = std::vector<std::int64_t>;

/// x + scale * tanh(x) on some rows, by LibTorch's operators or by ours.
at::Tensor branch_by_torch(const at::Tensor& x, const Rows& rows, double scale) {
  const at::Tensor index = at::tensor(rows, at::kLong);
  return x.index_add(0, index, x.index_select(0, index).tanh(), scale);
}
at::Tensor branch_by_us(const at::Tensor& x, const Rows& rows, double scale) {
  const auto [whole, part] = split_rows(x, rows);
  return merge_rows(whole, rows, part.tanh(), scale);
}

class RowSplit : public ::testing::Test {
 protected:
  /// Output and gradient of three branches one behind the other; `others` uses values between them again.
  template <typename Branch>
  std::pair<at::Tensor, at::Tensor> run(const Branch& branch, bool others) const {
    at::Tensor x = x_.clone().requires_grad_();
    const at::Tensor one = branch(x, Rows{0, 3}, 2.0);
    const at::Tensor two = branch(one, Rows{1, 2, 5}, 1.5);
    at::Tensor y = branch(two, Rows{5}, 6.0);
    if (others) y = y + one.sin() + x * two;
    (y * weights_).sum().backward();
    return {y.detach(), x.grad()};
  }

  /// Rows wider than a chunk of the loops. The same whatever tests ran before: the tolerances are narrow.
  RowSplit() {
    at::manual_seed(1);
    x_ = at::randn({6, 3, 3001});
    weights_ = at::randn({6, 3, 3001});
  }

  at::Tensor x_, weights_;
};

TEST_F(RowSplit, GivesTheNumbersOfIndexSelectAndIndexAdd) {
  const auto [mine, my_gradient] = run(branch_by_us, false);
  const auto [theirs, their_gradient] = run(branch_by_torch, false);
  EXPECT_TRUE(at::allclose(mine, theirs, 1e-6, 1e-6));
  EXPECT_TRUE(at::allclose(my_gradient, their_gradient, 1e-5, 1e-6));
}

TEST_F(RowSplit, GradientsThatOthersSeeAreNotOverwritten) {
  const auto [mine, my_gradient] = run(branch_by_us, true);
  const auto [theirs, their_gradient] = run(branch_by_torch, true);
  EXPECT_TRUE(at::allclose(mine, theirs, 1e-6, 1e-6));
  EXPECT_TRUE(at::allclose(my_gradient, their_gradient, 1e-5, 1e-5));
}

TEST_F(RowSplit, AGradientThatTheCallerKeepsStaysAsItWas) {
  at::Tensor x = x_.clone().requires_grad_();
  const at::Tensor y = branch_by_us(x, {0, 3}, 2.0), kept = weights_.clone();
  y.backward(weights_);
  EXPECT_TRUE(at::equal(weights_, kept));
}

TEST_F(RowSplit, ShortcutOrBranchAlone) {
  at::Tensor x = x_.clone().requires_grad_();
  split_rows(x, {1, 4}).second.sum().backward();
  EXPECT_EQ(x.grad().sum().item<float>(), 2 * 3 * 3001);
  x.mutable_grad().reset();
  split_rows(x, {1, 4}).first.sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), at::ones_like(x)));
}

TEST_F(RowSplit, LayerScaleAndItsGradientAreThoseOfAMultiplication) {
  const auto branch = [this](bool fused) {
    at::Tensor x = x_.clone().requires_grad_();
    at::Tensor gamma = at::arange(3001, at::kFloat).cos().requires_grad_();
    const auto [whole, part] = split_rows(x, {4, 0, 3});
    const Rows rows = {4, 0, 3};
    at::Tensor y = fused ? merge_rows(whole, rows, part.tanh(), 1.5, gamma)
                         : merge_rows(whole, rows, part.tanh() * gamma, 1.5);
    (y * weights_).sum().backward();
    return std::vector<at::Tensor>{y.detach(), x.grad(), gamma.grad()};
  };
  const auto mine = branch(true), theirs = branch(false);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::allclose(mine[i], theirs[i], 1e-5, 1e-5)) << i;
}

TEST_F(RowSplit, AFixedLayerScaleScalesTheGradient) {
  at::Tensor part = x_.narrow(0, 0, 2).clone().requires_grad_();
  const at::Tensor gamma = at::arange(3001, at::kFloat);
  merge_rows(x_, {1, 2}, part, 2.0, gamma).sum().backward();
  EXPECT_TRUE(at::equal(part.grad(), (2.0 * gamma).expand_as(part)));
}

TEST_F(RowSplit, WithoutGradientsItIsJustTheNumbers) {
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::allclose(branch_by_us(x_, {2}, 3.0), branch_by_torch(x_, {2}, 3.0), 1e-6, 1e-6));
}

}  // namespace
}  // namespace cosub::model
