// What a stage leaves of a step that was not finite, given to `cosub-worker model step`.
#include "worker/tools/model_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/error.h"
#include "common/exit_code.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/train/toy_stage.h"
#include "worker/collective/single_communicator.h"
#include "worker/model/tensor_file.h"
#include "worker/train/non_finite_dump.h"

namespace cosub {
namespace {

class ModelStep : public ::testing::Test {
 protected:
  /// The tensors that it writes.
  std::map<std::string, at::Tensor> run(std::vector<std::string> arguments) {
    const std::filesystem::path output = folder_ / ("output-" + std::to_string(num_runs_++));
    arguments.insert(arguments.begin(), "model step");
    arguments.insert(arguments.end(), {"--output", output.string()});
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    EXPECT_EQ(run_model_step(static_cast<int>(argv.size()), argv.data()), static_cast<int>(ExitCode::kDone));
    return model::read_tensors(output);
  }
  double loss(const std::vector<std::string>& arguments) { return run(arguments).at("loss").item<double>(); }

  testing::TemporaryFolder folder_;
  int num_runs_ = 0;
};

TEST_F(ModelStep, ReplaysTheStepThatEndedAStage) {
  config::StageFile file = testing::toy_stage(folder_ / "data", folder_ / "stage", testing::toy_vit(), 2);
  file.stage.optimizer.lr = 1e30;
  file.stage.optimizer.clip_norm = 0;
  file.stage.schedule.warmup_epochs = 0;
  file.stage.cosub.loss = config::LossKind::kCe;
  collective::SingleCommunicator alone;
  testing::ToyJob job(file, alone);
  std::string message;
  try {
    job.trainer().run();
  } catch (const NonFiniteError& error) {
    message = error.what();
  }
  ASSERT_THAT(message, ::testing::HasSubstr("training diverged"));
  std::filesystem::path input;
  for (const auto& entry : std::filesystem::directory_iterator(file.stage_folder / "non-finite"))
    if (entry.path().string().find("-model") == std::string::npos) input = entry.path();
  const std::filesystem::path weights = input.parent_path() / (input.stem().string() + "-model.safetensors");
  // As the log says: the model and its options are in the file.
  const std::vector<std::string> as_logged = {"--input", input.string(), "--weights", weights.string()};
  EXPECT_THAT(train::replay_command(input),
              ::testing::HasSubstr("--input " + input.string() + " --weights " + weights.string()));
  EXPECT_FALSE(std::isfinite(loss(as_logged)));
}

TEST_F(ModelStep, GoesByTheFileWhereNoOptionSaysOtherwise) {
  const auto model = model::create(testing::toy_vit(), 3);
  model::write_tensors(folder_ / "weights", model::state_of(*model));
  const data::Microbatch batch{
      .step = 5,
      .index = 2,
      .images = (at::arange(4 * 14 * 14, at::kFloat) * 0.3).sin().view({4, 1, 14, 14}),
      .targets = at::eye(4),
      .bad = {}};
  model::Pass pass;
  pass.kept.branches.resize(model->seam().branches().size());
  train::RecordedStep recorded{
      .model = model->timm_config().dump(), .cosub = {}, .precision = config::Precision::kBf16};
  recorded.cosub.loss = config::LossKind::kCe;
  recorded.cosub.lambda = 0.25;
  write_microbatch(folder_ / "recorded", batch, pass, recorded);
  model::write_tensors(folder_ / "plain", {{"input", batch.images}, {"target", batch.targets}});

  const std::vector<std::string> from_file = {"--input", (folder_ / "recorded").string(), "--weights",
                                              (folder_ / "weights").string()};
  std::vector<std::string> by_options = from_file;
  by_options[1] = (folder_ / "plain").string();
  by_options.push_back(testing::toy_vit().name);
  for (const char* arch : {"patch_size=7", "embed_dim=32", "depth=3", "num_heads=2"})
    by_options.insert(by_options.end(), {"--arch", arch});
  const double plain = loss(by_options);
  by_options.insert(by_options.end(), {"--loss", "ce", "--lambda", "0.25", "--precision", "bf16"});
  const double wanted = loss(by_options);
  EXPECT_NE(wanted, plain);
  EXPECT_EQ(loss(from_file), wanted);

  const auto with = [&from_file](std::vector<std::string> more) {
    more.insert(more.begin(), from_file.begin(), from_file.end());
    return more;
  };
  EXPECT_EQ(loss(with({"--loss", "bce", "--lambda", "0.5", "--precision", "fp32"})), plain);
  for (const auto& other :
       {with({"--loss", "bce"}), with({"--lambda", "0.5"}), with({"--precision", "fp32"})})
    EXPECT_NE(loss(other), wanted) << other.back();
  EXPECT_EQ(run(with({"--no-cosub"})).at("logits").size(0), 4);
}

TEST(RecordedStep, IsReadBackAsItWas) {
  train::RecordedStep step{
      .model = "{}", .cosub = {}, .precision = config::Precision::kTf32, .later_updates = 1};
  step.cosub.enabled = false;
  step.cosub.share_stem = false;
  step.cosub.lambda = 0.1;
  step.cosub.bce_reduction = config::BceReduction::kSum;
  step.cosub.targets = config::Targets::kBinarize;
  const train::RecordedStep read = train::from_metadata(to_metadata(step), "file");
  EXPECT_EQ(read.model, step.model);
  EXPECT_EQ(read.cosub, step.cosub);
  EXPECT_EQ(read.precision, step.precision);
  EXPECT_EQ(read.later_updates, 1);
}

TEST(RecordedStep, NamesTheKeyThatIsWrong) {
  const auto message_of = [](const std::string& key, const std::string& value) {
    try {
      train::from_metadata({{key, value}}, "dump.safetensors");
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message_of("lambda", "half"),
            "dump.safetensors: metadata lambda: found half; allowed: a number from 0 to 1");
  EXPECT_EQ(message_of("loss", "mse"), "dump.safetensors: metadata loss: found mse; allowed: bce, ce");
}

}  // namespace
}  // namespace cosub
