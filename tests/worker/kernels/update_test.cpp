// The kernels of the update beside the optimizers and the EMA of worker/train.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/worker/kernels/kernel_rig.h"
#include "worker/kernels/lamb_tables.h"
#include "worker/train/ema.h"
#include "worker/train/optimizer.h"

namespace cosub::kernels {
namespace {

using testing::distance;

constexpr double kDecay = 0.97;
constexpr std::int64_t kSteps = 4;

config::OptimizerConfig options_of(const std::string& name) {
  config::OptimizerConfig options;
  options.name = name;
  options.weight_decay = 0.05;
  options.beta1 = 0.8;
  options.beta2 = 0.95;
  options.momentum = 0.9;
  options.max_grad_norm = 1.0;
  return options;
}

/// Tensors of odd sizes, each from a multiple of 16 on; one longer than a chunk of LAMB's.
std::vector<train::ParameterGroup> groups_of() {
  const std::vector<std::vector<std::int64_t>> sizes = {{20'001, 96}, {33}, {7, 64, 1}};
  std::vector<train::ParameterGroup> groups;
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    train::ParameterGroup group;
    group.begin = offset;
    group.lr_scale = 1.0 - 0.25 * static_cast<double>(i);
    group.decays = i < 2;
    for (const std::int64_t numel : sizes[i]) {
      group.parameters.push_back({std::to_string(offset), {}, offset, numel});
      offset += (numel + 15) / 16 * 16;
    }
    group.end = offset;
    groups.push_back(group);
  }
  return groups;
}

class UpdateTest : public testing::KernelTest {
 protected:
  /// An update as a GPU makes it: by the kernels of this test.
  struct Update {
    at::Tensor values, gradients;
    std::unique_ptr<train::Optimizer> optimizer;
    train::Ema ema;
    train::UpdateScalars scalars;

    void run() { optimizer->update(values, gradients, scalars, &ema); }
  };

  at::Tensor padded(std::int64_t seed, double scale) const {
    at::Tensor flat = numbers({size_}, seed).mul_(scale);
    for (const train::ParameterGroup& group : groups_) {
      for (const train::Slot& slot : group.parameters) {
        const std::int64_t end = slot.offset + slot.numel;
        flat.slice(0, end, (end + 15) / 16 * 16).zero_();
      }
    }
    return flat;
  }

  Update start(const std::string& name) const {
    const at::Tensor values = padded(1, 0.3);
    return {values,
            {},
            train::make_optimizer(options_of(name), groups_, values),
            train::Ema(values, kDecay, /*warmup=*/true),
            train::UpdateScalars(device())};
  }

  static void set_scalars(const Update& update, double applies, std::int64_t updates, double lr,
                          double factor, double norm) {
    update.scalars.tensor().copy_(
        at::tensor({applies, static_cast<double>(updates), lr, factor, norm}, at::kDouble));
  }

  /// kSteps steps, of which one is not clipped, beside LibTorch's operators.
  void compare(const std::string& name) const {
    Update mine = start(name);
    at::Tensor values = mine.values.cpu().clone();
    const auto reference = train::make_optimizer(options_of(name), groups_, values);
    train::Ema ema(values, kDecay, /*warmup=*/true);
    for (std::int64_t step = 0; step < kSteps; ++step) {
      const double lr = 0.01 * static_cast<double>(step + 1), factor = step == 1 ? 1.0 : 0.4;
      mine.gradients = padded(step + 7, 0.1);
      at::Tensor gradients = mine.gradients.cpu().clone();
      if (factor < 1) gradients.mul_(factor);
      set_scalars(mine, 1, step, lr, factor, gradients.to(at::kDouble).norm().item<double>());
      mine.run();
      reference->update(values, gradients, step, lr);
      ema.update(values, step);
      EXPECT_LT(distance(mine.values, values), 1e-6) << step;
      EXPECT_LT(distance(mine.gradients, gradients), 1e-6) << "clipped in place, step " << step;
      EXPECT_LT(distance(mine.ema.average(), ema.average()), 1e-6) << step;
      for (const auto& [key, tensor] : reference->state())
        EXPECT_LT(distance(mine.optimizer->state().at(key), tensor), 1e-6) << key;
    }
  }

  void leave_out(const std::string& name) const {
    Update update = start(name);
    update.gradients = at::full({size_}, NAN, floats());
    set_scalars(update, 0, 3, 0.1, NAN, NAN);
    const at::Tensor values = update.values.clone(), average = update.ema.average().clone();
    update.run();
    EXPECT_TRUE(at::equal(update.values, values)) << name;
    EXPECT_TRUE(at::equal(update.ema.average(), average)) << name;
    for (const auto& [key, tensor] : update.optimizer->state())
      EXPECT_TRUE(at::equal(tensor, at::zeros_like(tensor))) << name << " " << key;
  }

  const std::vector<train::ParameterGroup> groups_ = groups_of();
  const std::int64_t size_ = groups_.back().end;
};

TEST_P(UpdateTest, AdamwIsThatOfTheTrainer) {
  compare("adamw");
}
TEST_P(UpdateTest, SgdIsThatOfTheTrainer) {
  compare("sgd");
}
TEST_P(UpdateTest, LambIsThatOfTheTrainer) {
  compare("lamb");
}

TEST_P(UpdateTest, AStepThatDoesNotApplyChangesNothing) {
  for (const char* name : {"adamw", "sgd", "lamb"}) leave_out(name);
}

TEST_P(UpdateTest, NormIsThatOfFloat64) {
  for (const std::int64_t size : {0, 1, 3, 31, 1'000, 30'001}) {
    const at::Tensor values = numbers({size}, 3),
                     scratch = at::full({kNormScratch}, NAN, floats().dtype(at::kDouble)),
                     norm = at::full({1}, NAN, floats().dtype(at::kDouble));
    Norm a;
    a.values = values.const_data_ptr<float>();
    a.size = size;
    a.scratch = scratch.mutable_data_ptr<double>();
    a.norm = norm.mutable_data_ptr<double>();
    in_any_order(norm, [&] { kernels().norm(a, nullptr); });
    const double exact = values.to(at::kCPU, at::kDouble).norm().item<double>();
    EXPECT_NEAR(norm.item<double>(), exact, 1e-12 * exact) << size;
  }
  const at::Tensor large = at::full({4}, 1e30, floats()),
                   scratch = at::empty({kNormScratch}, floats().dtype(at::kDouble)),
                   norm = at::empty({1}, floats().dtype(at::kDouble));
  kernels().norm(
      {large.const_data_ptr<float>(), 4, scratch.mutable_data_ptr<double>(), norm.mutable_data_ptr<double>()},
      nullptr);
  EXPECT_NEAR(norm.item<double>(), 2e30, 1e24);
}

TEST_P(UpdateTest, EmaOfBuffersIsThatOfTheTrainerAndHonoursApplies) {
  const at::Tensor values = numbers({1003}, 2), average = numbers({1003}, 3),
                   scalars = at::zeros({kNumUpdateScalars}, floats().dtype(at::kDouble));
  const at::Tensor before = average.clone();
  EmaUpdate a;
  a.begin = 16;
  a.end = 1003;
  a.scalars = scalars.const_data_ptr<double>();
  a.values = values.const_data_ptr<float>();
  a.ema = {average.mutable_data_ptr<float>(), kDecay, true};
  kernels().ema(a, nullptr);
  EXPECT_TRUE(at::equal(average, before)) << "it does not apply";
  scalars.copy_(at::tensor({1.0, 2.0, 0.0, 1.0, 1.0}, at::kDouble));
  kernels().ema(a, nullptr);
  train::Ema reference(before.cpu(), kDecay, /*warmup=*/true);
  reference.update(values.cpu(), 2);
  EXPECT_LT(distance(average.slice(0, 16), reference.average().slice(0, 16)), 1e-6);
  EXPECT_TRUE(at::equal(average.slice(0, 0, 16), before.slice(0, 0, 16)));
}

TEST(LambTables, CutEachTensorIntoChunks) {
  const LambTables tables =
      lamb_tables({{0, 2 * kLambChunk + 1, 0.5, 0.1}, {2 * kLambChunk + 16, 2 * kLambChunk + 20}});
  ASSERT_EQ(tables.tensors.size(), 2U);
  ASSERT_EQ(tables.chunks.size(), 4U);
  EXPECT_EQ(tables.tensors[0].num_chunks, 3);
  EXPECT_EQ(tables.tensors[1].first_chunk, 3);
  EXPECT_EQ(tables.chunks[2].begin, 2 * kLambChunk);
  EXPECT_EQ(tables.chunks[2].end, 2 * kLambChunk + 1);
  EXPECT_EQ(tables.chunks[3].tensor, 1);
}

COSUB_EMULATED_AND_ON_GPU(UpdateTest);

}  // namespace
}  // namespace cosub::kernels
