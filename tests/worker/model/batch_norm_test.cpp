#include "worker/model/batch_norm.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <barrier>
#include <stdexcept>
#include <thread>

#include "common/error.h"
#include "tests/support/distance.h"

namespace cosub::model {
namespace {

using testing::distance;

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

/// A group of threads in place of ranks: everyone's row, when all have come.
class ThreadGroup {
 public:
  explicit ThreadGroup(std::size_t size) : rows_(size), barrier_(static_cast<std::ptrdiff_t>(size)) {}
  GroupGather member(std::size_t rank) {
    return [this, rank](const at::Tensor& mine) {
      rows_[rank] = mine;
      barrier_.arrive_and_wait();
      const at::Tensor all = at::stack(rows_);
      barrier_.arrive_and_wait();
      return all;
    };
  }

 private:
  std::vector<at::Tensor> rows_;
  std::barrier<> barrier_;
};

void expect_ranks_together_give_the_whole(const at::Tensor& x, double tolerance) {
  const at::ScalarType type = x.scalar_type();
  const at::Tensor direction = at::randn_like(x);
  const std::vector<std::int64_t> rows = {1, 4, 2};  // uneven; none could go by itself at 1x1 pixels
  Fixture whole(x.size(1));
  if (type == at::kDouble) to_double(whole.layer);
  at::Tensor flat = at::zeros({whole.statistics.size()}, type);
  whole.statistics.write_to(flat);
  const Gradients expected = run(whole.layer, x, direction);

  ThreadGroup group(rows.size());
  std::vector<Gradients> found(rows.size());
  std::vector<at::Tensor> found_flat(rows.size());
  std::vector<std::jthread> threads;
  for (std::size_t rank = 0, first = 0; rank < rows.size(); first += rows[rank++]) {
    threads.emplace_back([&, rank, first] {
      Fixture part(x.size(1));
      {
        const at::NoGradGuard no_grad;
        if (type == at::kDouble) to_double(part.layer);
        part.layer.weight.copy_(whole.layer.weight);
        part.layer.bias.copy_(whole.layer.bias);
      }
      part.statistics.normalize_together(group.member(rank));
      found_flat[rank] = at::zeros({part.statistics.size()}, type);
      part.statistics.write_to(found_flat[rank]);
      const auto begin = static_cast<std::int64_t>(first);
      found[rank] = run(part.layer, x.narrow(0, begin, rows[rank]), direction.narrow(0, begin, rows[rank]));
    });
  }
  threads.clear();
  EXPECT_LT(distance(at::cat({found[0].y, found[1].y, found[2].y}), expected.y), tolerance);
  EXPECT_LT(distance(at::cat({found[0].x, found[1].x, found[2].x}), expected.x), tolerance);
  EXPECT_LT(distance(found[0].weight + found[1].weight + found[2].weight, expected.weight), tolerance);
  EXPECT_LT(distance(found[0].bias + found[1].bias + found[2].bias, expected.bias), tolerance);
  for (const at::Tensor& each : found_flat) {
    EXPECT_LT(distance(each, flat), tolerance);
    EXPECT_TRUE(at::equal(each, found_flat[0]));
  }
}

TEST(BatchNorm2d, TogetherRanksNormaliseAsOneWouldAllTheirRows) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({7, 12, 5, 5}) * at::linspace(0.5, 3.0, 7).view({7, 1, 1, 1}) +
                       at::arange(7, at::kFloat).view({7, 1, 1, 1});  // rows that differ in mean and spread
  expect_ranks_together_give_the_whole(x.contiguous(at::MemoryFormat::ChannelsLast), 1e-6);
  expect_ranks_together_give_the_whole(x, 1e-6);
  expect_ranks_together_give_the_whole(x.to(at::kDouble), 1e-12);
  expect_ranks_together_give_the_whole(x.slice(2, 0, 1).slice(3, 0, 1).to(at::kDouble).contiguous(), 1e-12);
}

TEST(BatchNorm2d, IsByItselfAgainWhenTheGroupIsGone) {
  Fixture fixture(3);
  const at::Tensor x = at::randn({4, 3, 2, 2}), direction = at::randn({4, 3, 2, 2});
  const at::Tensor before = run(fixture.layer, x, direction).y;
  fixture.statistics.normalize_together(
      [](const at::Tensor&) -> at::Tensor { throw std::logic_error("gone"); });
  EXPECT_THROW(fixture.layer.forward(x), std::logic_error);
  fixture.statistics.normalize_together({});
  EXPECT_TRUE(at::equal(run(fixture.layer, x, direction).y, before));
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
