#include "worker/model/gradient_in_place.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "worker/model/mlp.h"

namespace cosub::model {
namespace {

using Tensors = std::vector<at::Tensor>;

struct CountCalls final : torch::autograd::PostAccumulateGradHook {
  explicit CountCalls(int* calls_in) : calls(calls_in) {}
  void operator()(const at::Tensor&) override { ++*calls; }
  int* calls;
};

/// An MLP, whose nodes make the gradients of both weights by products.
class GradientInPlace : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const at::IntArrayRef sizes : Sizes{{12, 8}, {12}, {8, 12}, {8}}) {
      parameters_.push_back(at::randn(sizes).requires_grad_());
      parameters_.back().mutable_grad() = at::zeros(sizes);
    }
    torch::autograd::impl::set_post_acc_grad_hooks(parameters_[kWeight],
                                                   std::make_unique<CountCalls>(&calls_));
  }
  void TearDown() override { gradients_are_zero({}); }

  using Sizes = std::vector<std::vector<std::int64_t>>;
  static constexpr std::size_t kWeight = 2;  // fc2's

  at::Tensor forward() const {
    return mlp(x_, {parameters_[0], parameters_[1]}, {parameters_[2], parameters_[3]}).square().sum();
  }
  Tensors expected() const { return torch::autograd::grad({forward()}, parameters_); }
  void zero() {
    for (at::Tensor& parameter : parameters_) parameter.mutable_grad().zero_();
    gradients_are_zero(parameters_);
    calls_ = 0;
  }
  void expect_gradients(const Tensors& of, double times = 1) const {
    for (std::size_t i = 0; i < of.size(); ++i)
      EXPECT_TRUE(at::allclose(parameters_[i].grad(), of[i] * times, 1e-5, 1e-6)) << i;
  }

  const at::Tensor x_ = at::randn({5, 8});
  Tensors parameters_;
  int calls_ = 0;
};

TEST_F(GradientInPlace, IsWrittenWhereItIsZero) {
  const Tensors wanted = expected();
  zero();
  const at::Tensor loss = forward();
  // Not zero, as it was said to be: what is written shows, where an addition would not.
  parameters_[kWeight].mutable_grad().fill_(1);
  loss.backward();
  expect_gradients(wanted);
  EXPECT_EQ(calls_, 1);
}

TEST_F(GradientInPlace, IsAddedUnlessSaidToBeZero) {
  const Tensors wanted = expected();
  forward().backward();
  forward().backward();
  expect_gradients(wanted, 2);
  EXPECT_EQ(calls_, 2);
}

TEST_F(GradientInPlace, ASecondBackwardPassAdds) {
  const Tensors wanted = expected();
  zero();
  forward().backward();
  forward().backward();
  expect_gradients(wanted, 2);
  EXPECT_EQ(calls_, 2);
}

TEST_F(GradientInPlace, WhatIsUsedTwiceIsAddedUpBeforeTheHook) {
  const Tensors wanted = expected();
  zero();
  (forward() + forward()).backward();
  expect_gradients(wanted, 2);
  EXPECT_EQ(calls_, 1);
}

TEST_F(GradientInPlace, IsReturnedToWhoAsksForIt) {
  const Tensors wanted = expected();
  zero();
  const Tensors found = expected();
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(at::equal(found[i], wanted[i]));
    EXPECT_EQ(parameters_[i].grad().abs().max().item<float>(), 0);
  }
}

}  // namespace
}  // namespace cosub::model
