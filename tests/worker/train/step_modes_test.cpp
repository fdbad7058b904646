// A step may be launched as one graph, and its results read while the next one runs, as on a GPU. Here with
// the CPU's own twins of both: neither may show in any number.
#include <ATen/Context.h>
#include <ATen/record_function.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "common/error.h"
#include "tests/support/cuda_half.h"
#include "tests/support/emulated_kernels.h"
#include "tests/worker/model/models.h"
#include "tests/worker/train/toy_stage.h"
#include "worker/collective/single_communicator.h"
#include "worker/train/device.h"
#include "worker/train/step.h"

namespace cosub::train {
namespace {

/// Does again what it was given first, as a captured graph does: numbers that the host gave then stay.
class Replay final : public StepGraph {
 public:
  void run(const std::function<void()>& work) override {
    if (++num_runs_ <= kWarmUp) return work();
    if (!work_) work_ = work;
    work_();
  }
  bool captured() const override { return static_cast<bool>(work_); }

 private:
  static constexpr int kWarmUp = 2;
  int num_runs_ = 0;
  std::function<void()> work_;
};

struct Mode {
  bool graph = false, late = false;
};

class StepModes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { testing::load_cuda_half(); }
  static constexpr std::int64_t kImages = 8, kMicrobatches = 3;

  config::StageConfig stage(const config::ModelConfig& model, const std::string& rule) {
    config::StageConfig stage;
    stage.model = model;
    stage.model.drop_rate = 0.5;
    stage.model.drop_rate_rule = config::DropRateRule::kUniform;
    stage.optimizer.name = rule;
    stage.optimizer.clip_norm = 0.5;
    stage.optimizer.weight_decay = 0.05;
    stage.cosub.lambda_start = 0.1;
    stage.batch = {.global = kImages * kMicrobatches, .micro = kImages};
    stage.ema = 0.9;
    return stage;
  }

  data::Microbatch microbatch(const config::ModelConfig& model, std::int64_t step, std::int64_t index) {
    const std::int64_t size = model.image_size;
    const double phase = static_cast<double>(step * kMicrobatches + index);
    at::Tensor images = (at::arange(kImages * model.channels * size * size, at::kFloat) * 0.37 + phase).sin();
    if (step == broken_step_) images.fill_(std::numeric_limits<float>::infinity());
    return {.step = step,
            .index = index,
            .images = images.view({kImages, model.channels, size, size}),
            .targets =
                at::eye(model.classes).index_select(0, (at::arange(kImages) + step).remainder(model.classes)),
            .bad = std::vector<data::BadSample>(static_cast<std::size_t>(step))};
  }

  std::unique_ptr<StepGraph> make_graph(const config::StageConfig& stage) const {
    if (device_.is_cpu()) return std::make_unique<Replay>();
    return make_step_graph(stage, device_, 1);
  }

  struct Trained {
    std::string hash;
    at::Tensor average;
    std::vector<StepOutcome> outcomes;
    bool diverged = false, captured = false;
  };

  Trained train(const config::StageConfig& stage, Mode mode, std::int64_t steps) {
    const auto model = model::create(stage.model, 5);
    model->to(device_);
    FlatState state(*model);
    const auto optimizer = make_optimizer(stage.optimizer, state);
    Ema ema(state.values(), stage.ema, /*warmup=*/true);
    PhaseClock clock;
    std::unique_ptr<StepGraph> graph = mode.graph ? make_graph(stage) : nullptr;
    const StepGraph* const replays = graph.get();  // as long as the step is there
    EXPECT_EQ(replays != nullptr, mode.graph) << "no graph to compare with: see the log";
    TrainStep step({.model = *model,
                    .state = state,
                    .optimizer = *optimizer,
                    .ema = &ema,
                    .communicator = *communicator_,
                    .clock = clock,
                    .graph = std::move(graph),
                    .late_results = mode.late},
                   stage, 1);
    Trained trained;
    try {
      for (std::int64_t s = 0; s < steps; ++s) {
        std::int64_t index = 0;
        step.set_lambda(0.1 + 0.05 * static_cast<double>(s));
        const auto outcome =
            step.run(s, [&] { return microbatch(stage.model, s, index++); },
                     1e-3 * static_cast<double>(s + 1), {.stop = s == 3, .checkpoint = s == 2});
        EXPECT_EQ(outcome.has_value(), !mode.late || s > 0);
        if (outcome) trained.outcomes.push_back(*outcome);
      }
      while (const auto outcome = step.last()) trained.outcomes.push_back(*outcome);
    } catch (const NonFiniteError&) {
      trained.diverged = true;
    }
    trained.captured = replays != nullptr && replays->captured();
    trained.hash = state.hash();
    trained.average = ema.average().clone();
    return trained;
  }

  static void expect_same(const Trained& found, const Trained& wanted, const std::string& where) {
    EXPECT_EQ(found.hash, wanted.hash) << where;
    EXPECT_TRUE(found.average.equal(wanted.average)) << where;
    ASSERT_EQ(found.outcomes.size(), wanted.outcomes.size()) << where;
    for (std::size_t s = 0; s < wanted.outcomes.size(); ++s) {
      const StepOutcome &mine = found.outcomes[s], &theirs = wanted.outcomes[s];
      EXPECT_EQ(mine.step, theirs.step) << where;
      EXPECT_TRUE(theirs.skipped || mine.loss == theirs.loss) << where << ", step " << s;
      EXPECT_EQ(mine.correct, theirs.correct) << where << ", step " << s;
      EXPECT_EQ(mine.images, theirs.images) << where << ", step " << s;
      EXPECT_EQ(mine.bad_samples, theirs.bad_samples) << where << ", step " << s;
      EXPECT_EQ(mine.learning_rate, theirs.learning_rate) << where << ", step " << s;
      EXPECT_EQ(mine.skipped, theirs.skipped) << where << ", step " << s;
      EXPECT_EQ(mine.word.stop, theirs.word.stop) << where << ", step " << s;
      EXPECT_EQ(mine.word.checkpoint, theirs.word.checkpoint) << where << ", step " << s;
    }
  }

  std::int64_t broken_step_ = -1;
  collective::SingleCommunicator alone_;
  at::Device device_ = at::kCPU;
  collective::Communicator* communicator_ = &alone_;
};

constexpr Mode kPlain, kGraph{.graph = true}, kLate{.late = true}, kBoth{.graph = true, .late = true};

TEST_F(StepModes, GraphAndLateResultsGiveTheSameBitsInEveryFamily) {
  for (const config::ModelConfig& model : model::small_models()) {
    const Trained wanted = train(stage(model, "adamw"), kPlain, 5);
    EXPECT_EQ(wanted.outcomes.back().bad_samples, 4 * kMicrobatches);
    EXPECT_TRUE(wanted.outcomes[3].word.stop && wanted.outcomes[2].word.checkpoint);
    const Trained found = train(stage(model, "adamw"), kBoth, 5);
    EXPECT_TRUE(found.captured) << model.name;
    expect_same(found, wanted, model.name);
  }
}

TEST_F(StepModes, GiveTheSameBitsWithEveryOptimizer) {
  for (const char* rule : {"adamw", "lamb", "sgd"}) {
    const Trained wanted = train(stage(model::small_vit(), rule), kPlain, 6);
    for (const Mode mode : {kGraph, kLate, kBoth})
      expect_same(train(stage(model::small_vit(), rule), mode, 6), wanted, rule);
  }
}

TEST_F(StepModes, ASkippedStepChangesNothingAndIsNotCounted) {
  for (const config::ModelConfig& model : {model::small_vit(), model::small_resnet()}) {
    config::StageConfig skips = stage(model, "adamw");
    skips.non_finite = config::NonFinite::kSkip;
    broken_step_ = 3;
    const Trained wanted = train(skips, kPlain, 6);
    EXPECT_TRUE(wanted.outcomes[3].skipped);
    EXPECT_FALSE(wanted.outcomes[4].skipped);
    for (const Mode mode : {kGraph, kLate, kBoth}) expect_same(train(skips, mode, 6), wanted, model.name);
  }
}

/// Steps are queued before the one that broke is known; they must not change what it met.
TEST_F(StepModes, NothingChangesAfterAStepThatEndsTheRun) {
  config::StageConfig stops = stage(model::small_resnet(), "lamb");
  const Trained before = train(stops, kPlain, 3);
  broken_step_ = 3;
  for (const Mode mode : {kPlain, kGraph, kLate, kBoth}) {
    const Trained found = train(stops, mode, 6);
    EXPECT_TRUE(found.diverged);
    EXPECT_EQ(found.hash, before.hash) << mode.graph << mode.late;
    EXPECT_TRUE(found.average.equal(before.average));
  }
}

/// Their emulation: what a GPU's update does, and what the model's branches do there.
TEST_F(StepModes, WithOurKernelsAreTheSameBitsToo) {
  for (const char* rule : {"adamw", "lamb", "sgd"}) {
    config::StageConfig skips = stage(model::small_vit(), rule);
    skips.non_finite = config::NonFinite::kSkip;
    broken_step_ = 1;
    const Trained without = train(skips, kPlain, 4);
    const testing::WithEmulatedKernels kernels;
    const Trained wanted = train(skips, kPlain, 4);
    EXPECT_NE(wanted.hash, without.hash) << rule;
    EXPECT_LT((wanted.average - without.average).norm().item<double>(),
              1e-5 * without.average.norm().item<double>())
        << rule;
    expect_same(train(skips, kBoth, 4), wanted, rule);
  }
}

std::int64_t numbers_read = 0;

/// On a GPU each of these would wait for the device, and could not be captured.
TEST_F(StepModes, AStepReadsNoNumberOfTheDevice) {
  const auto count = at::addGlobalCallback(at::RecordFunctionCallback([](const at::RecordFunction& function) {
    const std::string_view name = function.name();
    numbers_read += name == "aten::_local_scalar_dense" || name == "aten::nonzero" || name == "aten::equal";
    return std::unique_ptr<at::ObserverContext>();
  }));
  at::zeros({1}).item<float>();
  EXPECT_EQ(std::exchange(numbers_read, 0), 1);
  for (const config::ModelConfig& model : model::small_models()) {
    train(stage(model, "lamb"), kBoth, 2);  // AdamW's kernel is LibTorch's, and another one on a GPU
    EXPECT_EQ(std::exchange(numbers_read, 0), 0) << model.name;
  }
  at::removeCallback(count);
}

std::set<std::string> constants_read;  // by which operators

std::unique_ptr<at::ObserverContext> look_for_constants(const at::RecordFunction& function) {
  for (const c10::IValue& input : function.inputs()) {
    if (!input.isTensor() || !input.toTensor().defined()) continue;
    const at::Tensor& tensor = input.toTensor();
    if (tensor.scalar_type() == at::kFloat && tensor.dim() > 0) constants_read.insert(function.name());
  }
  return nullptr;
}

/// What lies on the host would be copied in every step, which waits for a GPU and cannot be captured. Here
/// the model is in float64, so that a float32 tensor is one that did not follow it.
TEST_F(StepModes, AModelsConstantsFollowItOnce) {
  for (const config::ModelConfig& config : model::small_models()) {
    const auto model = model::create(config, 5);
    model->train();
    for (const auto& [name, tensor] : model::state_of(*model)) {
      at::Tensor live = tensor;
      if (live.is_floating_point()) live.set_data(live.to(at::kDouble));
    }
    const at::Tensor statistics = at::zeros({model->batch_statistics().size()}, at::kDouble);
    model->batch_statistics().write_to(statistics);
    model::Pass pass;
    pass.images = kImages;
    const at::Tensor images = microbatch(config, 0, 0).images.to(at::kDouble);
    const auto run = [&] {
      model->seam().begin(pass);
      model->forward(images).sum().backward();
    };
    run();
    const auto look = at::addGlobalCallback(
        at::RecordFunctionCallback(look_for_constants).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
    at::zeros({2}, at::kFloat).sum();
    EXPECT_TRUE(std::exchange(constants_read, {}).contains("aten::sum"));
    run();
    at::removeCallback(look);
    EXPECT_EQ(std::exchange(constants_read, {}), std::set<std::string>()) << config.name;
  }
}

/// The real ones. Warm-up, capture and replays, in float32 and under autocast.
TEST_F(StepModes, OnAGpuAreBitForBitThoseOfSingleKernels) {
  if (!collective::gpu_present()) GTEST_SKIP() << "no CUDA graph was run: this host has no GPU";
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  const DeviceChoice choice = choose_device(alone_, "cuda");
  device_ = choice.device;
  communicator_ = choice.communicator;
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setBenchmarkCuDNN(false);
  for (const config::ModelConfig& model : model::small_models()) {
    for (const config::Precision precision : {config::Precision::kFp32, config::Precision::kBf16}) {
      for (const char* rule : {"adamw", "lamb", "sgd"}) {
        config::StageConfig same = stage(model, rule);
        same.precision = precision;
        same.non_finite = config::NonFinite::kSkip;
        broken_step_ = 5;
        const std::string where = fmt::format("{} {} {}", model.name, rule,
                                              precision == config::Precision::kBf16 ? "bf16" : "fp32");
        const Trained found = train(same, kBoth, 8);
        // Else both were launched kernel by kernel, and would agree whatever a graph does.
        EXPECT_TRUE(found.captured) << where;
        expect_same(found, train(same, kPlain, 8), where);
      }
    }
  }
  at::globalContext().setDeterministicAlgorithms(false, false);
}

}  // namespace
}  // namespace cosub::train
