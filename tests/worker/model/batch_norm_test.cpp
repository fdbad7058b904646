#include "worker/model/batch_norm.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "common/error.h"

namespace cosub::model {
namespace {

struct Gradients {
  at::Tensor y, x, weight, bias;
};

/// Forward and backward of a BatchNorm with given weights, against a fixed direction.
Gradients run(BatchNorm2d& layer, const at::Tensor& input, const at::Tensor& direction) {
  at::Tensor x = input.detach().set_requires_grad(true);
  layer.weight.mutable_grad() = at::Tensor();
  layer.bias.mutable_grad() = at::Tensor();
  const at::Tensor y = layer.forward(x);
  (y * direction).sum().backward();
  return {y.detach(), x.grad(), layer.weight.grad(), layer.bias.grad()};
}

void to_double(BatchNorm2d& layer) {
  for (at::Tensor* tensor : {&layer.weight, &layer.bias, &layer.running_mean, &layer.running_var}) {
    tensor->set_data(tensor->to(at::kDouble));
  }
}

double distance(const at::Tensor& ours, const at::Tensor& reference) {
  return ((ours.to(at::kDouble) - reference).norm() / reference.norm()).item<double>();
}

struct Fixture {
  explicit Fixture(std::int64_t channels) : layer(channels, statistics) {
    const at::NoGradGuard no_grad;
    layer.weight.uniform_(0.5, 1.5);
    layer.bias.uniform_(-0.5, 0.5);
  }
  BatchStatistics statistics;
  BatchNorm2d layer;
};

TEST(BatchNorm2d, TrainsLikeTorchInDoubleOnManyRows) {
  at::manual_seed(1);
  Fixture fixture(24);
  const at::Tensor x = (at::randn({40, 24, 33, 33}) * 2.0 + 3.0).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor direction = at::randn({40, 24, 33, 33});
  at::Tensor flat = at::zeros({fixture.statistics.size()});
  fixture.statistics.write_to(flat);
  const Gradients ours = run(fixture.layer, x, direction);

  to_double(fixture.layer);
  at::Tensor flat_double = at::zeros({fixture.statistics.size()}, at::kDouble);
  fixture.statistics.write_to(flat_double);
  const Gradients reference = run(fixture.layer, x.to(at::kDouble), direction.to(at::kDouble));
  EXPECT_LT(distance(ours.y, reference.y), 3e-7);
  EXPECT_LT(distance(ours.x, reference.x), 3e-7);
  EXPECT_LT(distance(ours.weight, reference.weight), 1e-6);
  EXPECT_LT(distance(ours.bias, reference.bias), 1e-6);
  EXPECT_LT(distance(flat, flat_double), 1e-6);
  EXPECT_TRUE(ours.y.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST(BatchNorm2d, GivesTheSameBitsOnAnyNumberOfThreads) {
  Fixture fixture(7);
  const at::Tensor x = at::randn({30, 7, 20, 20}).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor direction = at::randn({30, 7, 20, 20});
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Gradients one = run(fixture.layer, x, direction);
  const at::Tensor weight = one.weight.clone(), bias = one.bias.clone();
  at::set_num_threads(3);
  const Gradients three = run(fixture.layer, x, direction);
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one.y, three.y));
  EXPECT_TRUE(at::equal(one.x, three.x));
  EXPECT_TRUE(at::equal(weight, three.weight));
  EXPECT_TRUE(at::equal(bias, three.bias));
}

TEST(BatchNorm2d, TrainingLeavesTheRunningBuffersAlone) {
  Fixture fixture(3);
  fixture.layer.forward(at::randn({4, 3, 2, 2}));
  EXPECT_TRUE(at::equal(fixture.layer.running_mean, at::zeros({3})));
  EXPECT_TRUE(at::equal(fixture.layer.running_var, at::ones({3})));
}

TEST(BatchStatistics, RunningBuffersMoveOncePerStepByTheMeanOfTheMicrobatches) {
  Fixture fixture(2);
  at::Tensor sum = at::zeros({fixture.statistics.size()}), flat = at::zeros({fixture.statistics.size()});
  std::vector<at::Tensor> batches = {at::randn({4, 2, 3, 3}), at::randn({4, 2, 3, 3}) + 5.0};
  at::Tensor mean = at::zeros({2}), var = at::zeros({2});
  for (const at::Tensor& batch : batches) {
    fixture.statistics.write_to(flat);
    fixture.layer.forward(batch);
    sum += flat;
    mean += batch.mean({0, 2, 3}) / 2.0;
    var += batch.var(at::IntArrayRef{0, 2, 3}, /*unbiased=*/true) / 2.0;
  }
  fixture.statistics.update_running(sum, 2);
  EXPECT_TRUE(at::allclose(fixture.layer.running_mean, 0.1 * mean, 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(fixture.layer.running_var, 0.9 + 0.1 * var, 1e-5, 1e-6));
  EXPECT_EQ(fixture.layer.num_batches_tracked.item<std::int64_t>(), 1);
}

TEST(BatchStatistics, LayerWithoutRowsContributesItsRunningStatistics) {
  Fixture fixture(2);
  fixture.layer.running_mean.fill_(3.0);
  at::Tensor flat = at::zeros({fixture.statistics.size()});
  fixture.statistics.write_to(flat);
  EXPECT_TRUE(at::equal(flat, at::tensor({3.0F, 3.0F, 1.0F, 1.0F})));
  fixture.statistics.update_running(flat, 1);
  EXPECT_TRUE(at::allclose(fixture.layer.running_mean, at::full({2}, 3.0)));
}

TEST(BatchNorm2d, SingleValuePerChannelIsAnErrorWithRemedy) {
  Fixture fixture(4);
  try {
    fixture.layer.forward(at::randn({1, 4, 1, 1}));
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("raise batch.micro"), std::string::npos);
  }
}

}  // namespace
}  // namespace cosub::model
