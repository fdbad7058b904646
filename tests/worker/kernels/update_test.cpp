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

at::Tensor bytes_on(at::Device device, const void* from, std::size_t size) {
  return at::from_blob(const_cast<void*>(from), {static_cast<std::int64_t>(size)}, at::kByte)
      .clone()
      .to(device);
}

class UpdateTest : public testing::KernelTest {
 protected:
  /// What one rule's update needs, on the device.
  struct Vectors {
    at::Tensor values, gradients, average, scalars;
    std::map<std::string, at::Tensor> state;
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

  Vectors start(const train::Optimizer& reference) const {
    Vectors v{padded(1, 0.3), {}, {}, at::zeros({kNumUpdateScalars}, floats().dtype(at::kDouble)), {}};
    v.average = v.values.clone();
    for (const auto& [name, tensor] : reference.state()) v.state[name] = at::zeros_like(v.values);
    return v;
  }

  void set_scalars(Vectors& v, double applies, std::int64_t updates, double lr, double factor,
                   double norm) const {
    v.scalars.copy_(at::tensor({applies, static_cast<double>(updates), lr, factor, norm}, at::kDouble));
  }

  void update(const std::string& name, const Vectors& v) const {
    const config::OptimizerConfig options = options_of(name);
    const auto at = [](const at::Tensor& t) { return t.mutable_data_ptr<float>(); };
    const EmaRule ema{at(v.average), kDecay, true};
    const double* scalars = v.scalars.const_data_ptr<double>();
    if (name == "lamb") return update_lamb(options, v);
    for (const train::ParameterGroup& group : groups_) {
      const UpdateGroup part{group.begin, group.end, group.lr_scale,
                             group.decays ? options.weight_decay : 0.0};
      if (name == "adamw") {
        kernels().adamw(
            {part, scalars, at(v.values), at(v.gradients), at(v.state.at("exp_avg")),
             at(v.state.at("exp_avg_sq")), ema, options.beta1, options.beta2, config::eps_of(options)},
            nullptr);
      } else {
        kernels().sgd({part, scalars, at(v.values), at(v.gradients), at(v.state.at("momentum_buffer")), ema,
                       options.momentum, options.nesterov},
                      nullptr);
      }
    }
  }

  void update_lamb(const config::OptimizerConfig& options, const Vectors& v) const {
    std::vector<UpdateGroup> tensors;
    for (const train::ParameterGroup& group : groups_)
      for (const train::Slot& slot : group.parameters)
        tensors.push_back({slot.offset, slot.offset + slot.numel, group.lr_scale,
                           group.decays ? options.weight_decay : 0.0});
    const LambTables tables = lamb_tables(tensors);
    const at::Tensor of_tensors =
        bytes_on(device(), tables.tensors.data(), tables.tensors.size() * sizeof(LambTensor));
    const at::Tensor of_chunks =
        bytes_on(device(), tables.chunks.data(), tables.chunks.size() * sizeof(LambChunk));
    LambUpdate a;
    a.tensors = static_cast<const LambTensor*>(of_tensors.const_data_ptr());
    a.chunks = static_cast<const LambChunk*>(of_chunks.const_data_ptr());
    a.num_tensors = static_cast<std::int64_t>(tables.tensors.size());
    a.num_chunks = static_cast<std::int64_t>(tables.chunks.size());
    const at::Tensor squares = at::full({2 * a.num_chunks}, NAN, floats().dtype(at::kDouble));
    const at::Tensor ratios = at::full({a.num_tensors}, NAN, floats());
    a.scalars = v.scalars.const_data_ptr<double>();
    a.values = v.values.mutable_data_ptr<float>();
    a.gradients = v.gradients.mutable_data_ptr<float>();
    a.exp_avg = v.state.at("exp_avg").mutable_data_ptr<float>();
    a.exp_avg_sq = v.state.at("exp_avg_sq").mutable_data_ptr<float>();
    a.ema = {v.average.mutable_data_ptr<float>(), kDecay, true};
    a.beta1 = options.beta1;
    a.beta2 = options.beta2;
    a.eps = config::eps_of(options);
    a.max_grad_norm = options.max_grad_norm;
    a.squares_scratch = squares.mutable_data_ptr<double>();
    a.ratio_scratch = ratios.mutable_data_ptr<float>();
    kernels().lamb(a, nullptr);
  }

  /// kSteps steps, of which one is left out and one is not clipped, beside worker/train's.
  void compare(const std::string& name) const {
    const auto reference = train::make_optimizer(options_of(name), groups_, at::zeros({size_}));
    Vectors v = start(*reference);
    at::Tensor values = v.values.cpu().clone();
    train::Ema ema(values, kDecay, /*warmup=*/true);
    for (std::int64_t step = 0; step < kSteps; ++step) {
      const double lr = 0.01 * static_cast<double>(step + 1), factor = step == 1 ? 1.0 : 0.4;
      v.gradients = padded(step + 7, 0.1);
      at::Tensor gradients = v.gradients.cpu().clone();
      if (factor < 1) gradients.mul_(factor);
      set_scalars(v, 1, step, lr, factor, train::global_norm(gradients));
      update(name, v);
      reference->update(values, gradients, step, lr);
      ema.update(values, step);
      EXPECT_LT(distance(v.values, values), 1e-6) << step;
      EXPECT_LT(distance(v.gradients, gradients), 1e-6) << "clipped in place, step " << step;
      EXPECT_LT(distance(v.average, ema.average()), 1e-6) << step;
      for (const auto& [key, tensor] : reference->state())
        EXPECT_LT(distance(v.state[key], tensor), 1e-6) << key;
    }
  }

  void leave_out(const std::string& name) const {
    const auto reference = train::make_optimizer(options_of(name), groups_, at::zeros({size_}));
    Vectors v = start(*reference);
    v.gradients = at::full({size_}, NAN, floats());
    set_scalars(v, 0, 3, 0.1, NAN, NAN);
    const Vectors before = {v.values.clone(), {}, v.average.clone(), {}, {}};
    update(name, v);
    EXPECT_TRUE(at::equal(v.values, before.values));
    EXPECT_TRUE(at::equal(v.average, before.average));
    for (const auto& [key, tensor] : v.state) EXPECT_TRUE(at::equal(tensor, at::zeros_like(tensor))) << key;
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
