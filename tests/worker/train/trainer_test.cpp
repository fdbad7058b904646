// Whole toy stages in this process, on one rank.
#include "worker/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/model/models.h"
#include "tests/worker/train/toy_stage.h"
#include "worker/collective/single_communicator.h"
#include "worker/model/tensor_file.h"
#include "worker/train/agreement.h"
#include "worker/train/stop_flag.h"

namespace cosub::train {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

class TrainerTest : public ::testing::Test {
 protected:
  ~TrainerTest() override { clear_stop(); }

  config::StageFile stage(const std::string& name, const config::ModelConfig& model, double epochs) {
    std::filesystem::create_directories(folder_ / "data");
    return testing::toy_stage(folder_ / "data", folder_ / name, model, epochs);
  }

  struct End {
    ExitCode code;
    std::string hash;
    at::Tensor ema;
    TrainingProgress progress;
  };
  End run(const config::StageFile& file) {
    testing::ToyJob job(file, alone_);
    job.job.late_results = late_results_;
    if (!bad_.empty()) job.train = std::make_shared<testing::WithBadSamples>(job.train, bad_);
    Trainer trainer = job.trainer();
    ExitCode code = trainer.run();
    return {code, trainer.state().hash(), trainer.ema() ? trainer.ema()->average().clone() : at::Tensor(),
            trainer.progress()};
  }

  /// As a kill just after the first checkpoint would leave it: later steps are lost.
  void forget_after(const config::StageFile& file, std::int64_t step) {
    for (const auto& entry : std::filesystem::directory_iterator(file.stage_folder / "checkpoints"))
      if (std::stoll(entry.path().filename().string().substr(5)) > step)
        std::filesystem::remove_all(entry.path());
  }

  static std::vector<double> column(const std::filesystem::path& csv, int index) {
    std::ifstream in(csv);
    std::vector<double> values;
    std::string line;
    std::getline(in, line);
    while (std::getline(in, line)) {
      std::istringstream cells(line);
      std::string cell;
      for (int i = 0; i <= index; ++i) std::getline(cells, cell, ',');
      values.push_back(std::stod(cell));
    }
    return values;
  }

  testing::TemporaryFolder folder_;
  collective::SingleCommunicator alone_;
  bool late_results_ = false;
  std::set<std::int64_t> bad_;  // training samples
};

TEST_F(TrainerTest, NvjpegOnCpusIsRefusedBeforeTheFirstStep) {
  config::StageFile file = stage("nvjpeg", testing::toy_vit(), 1);
  file.stage.data.decode = config::Decode::kNvjpeg;
  try {
    run(file);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kBadInput);
    EXPECT_THAT(error.what(), HasSubstr("data.decode: nvjpeg, but this stage runs on CPUs"));
    EXPECT_THAT(error.what(), HasSubstr("Use data.decode: cpu"));
  }
}

TEST_F(TrainerTest, LossFallsByAThirdIn50StepsInEveryFamily) {
  const std::filesystem::path fashion_mnist = "/usr/share/datasets/fashion-mnist";
  for (config::ModelConfig model : model::small_models()) {
    model.classes = 10;
    model.drop_rate = 0.1;
    model.drop_rate_rule = config::DropRateRule::kUniform;
    if (model.name.starts_with("deit3")) model.arch["init_values"] = 1.0;  // 1e-6 is for long runs
    if (model.name.starts_with("swin")) model.arch["embed_dim"] = 24;
    config::StageFile file = stage(model.name, model, 1);
    file.stage.data.train = {.idx = config::IdxSource{fashion_mnist / "train-images-idx3-ubyte.gz",
                                                      fashion_mnist / "train-labels-idx1-ubyte.gz"},
                             .limit = 50 * 128};
    file.stage.data.val = {.idx = config::IdxSource{fashion_mnist / "t10k-images-idx3-ubyte.gz",
                                                    fashion_mnist / "t10k-labels-idx1-ubyte.gz"},
                           .limit = 100};
    file.stage.data.mean = {0.286};
    file.stage.data.std = {0.353};
    file.stage.data.mix = {};
    file.stage.data.augment = {};
    file.stage.cosub.loss = config::LossKind::kCe;
    file.stage.batch = {.global = 128, .micro = 32};
    file.stage.schedule.name = "constant";
    file.stage.schedule.warmup_epochs = 0.1;
    file.stage.optimizer.lr = 5e-3;
    file.stage.log_every_steps = 5;
    EXPECT_EQ(run(file).code, ExitCode::kDone);
    std::vector<double> losses = column(file.stage_folder / "metrics.csv", 2);
    ASSERT_EQ(losses.size(), 10u);
    EXPECT_LT(losses.back(), losses.front() * 2 / 3) << model.name;
  }
}

TEST_F(TrainerTest, LossFallsAndTheResultIsWritten) {
  config::StageFile file = stage("learns", testing::toy_resnet(), 15);
  file.stage.data.mix = {};
  file.stage.data.augment = {};
  file.stage.cosub.loss = config::LossKind::kCe;
  file.stage.batch = {.global = 16, .micro = 16};
  file.stage.optimizer.lr = 1e-2;
  EXPECT_EQ(run(file).code, ExitCode::kDone);
  std::vector<double> losses = column(file.stage_folder / "metrics.csv", 2);
  ASSERT_GE(losses.size(), 20u);
  EXPECT_LT(losses.back(), 0.6 * losses.front());
  nlohmann::json result = nlohmann::json::parse(read_file(file.stage_folder / "result.json"));
  EXPECT_EQ(result.at("step"), 90);
  EXPECT_EQ(result.at("samples"), 34);
  EXPECT_GT(result.at("metrics").at("top1").get<double>(), 0.6);
}

TEST_F(TrainerTest, ResumesBitForBitMidEpochForBothFamilies) {
  for (const config::ModelConfig& model : {testing::toy_resnet(), testing::toy_vit()}) {
    End whole = run(stage("whole-" + model.name, model, 2));
    config::StageFile file = stage("resumed-" + model.name, model, 2);
    file.stage.checkpoint.every_steps = 5;
    run(file);
    forget_after(file, 5);
    std::filesystem::remove(file.stage_folder / "result.json");
    End resumed = run(file);
    EXPECT_EQ(resumed.code, ExitCode::kDone);
    EXPECT_EQ(resumed.hash, whole.hash);
    EXPECT_TRUE(resumed.ema.equal(whole.ema));
    EXPECT_EQ(resumed.progress.images, whole.progress.images);
    EXPECT_EQ(column(file.stage_folder / "metrics.csv", 2),
              column(folder_ / ("whole-" + model.name) / "metrics.csv", 2));
  }
}

TEST_F(TrainerTest, ResumesBitForBitWithEveryOptimizer) {
  for (const char* name : {"lamb", "sgd"}) {
    const auto with_rule = [&](const std::string& folder) {
      config::StageFile file = stage(folder + name, testing::toy_vit(), 1);
      file.stage.optimizer.name = name;
      file.stage.optimizer.layer_decay = 0.75;
      file.stage.cosub.lambda_warmup_epochs = 0.5;
      return file;
    };
    const End whole = run(with_rule("whole-"));
    config::StageFile file = with_rule("resumed-");
    request_stop();
    EXPECT_EQ(run(file).code, ExitCode::kInterrupted);
    clear_stop();
    EXPECT_EQ(run(file).hash, whole.hash) << name;
  }
}

TEST_F(TrainerTest, StopsAfterTheStepWithACheckpointAndGoesOn) {
  End whole = run(stage("whole", testing::toy_resnet(), 1));
  config::StageFile file = stage("stopped", testing::toy_resnet(), 1);
  request_stop();
  End stopped = run(file);
  EXPECT_EQ(stopped.code, ExitCode::kInterrupted);
  EXPECT_EQ(stopped.progress.step, 1);
  EXPECT_FALSE(std::filesystem::exists(file.stage_folder / "result.json"));
  clear_stop();
  EXPECT_EQ(run(file).hash, whole.hash);
}

/// As on a GPU, where a step is started before the numbers of the one before it are known.
TEST_F(TrainerTest, LateResultsShowInNoNumberOfTheRun) {
  const End whole = run(stage("prompt", testing::toy_resnet(), 2));
  late_results_ = true;
  const config::StageFile file = stage("late", testing::toy_resnet(), 2);
  const End late = run(file);
  EXPECT_EQ(late.hash, whole.hash);
  EXPECT_TRUE(late.ema.equal(whole.ema));
  EXPECT_EQ(late.progress.step, whole.progress.step);
  EXPECT_EQ(late.progress.images, whole.progress.images);
  EXPECT_EQ(late.progress.val_top1, whole.progress.val_top1);
  for (const int decisive : {0, 1, 2, 3, 4, 5, 8})  // not speed, not waiting
    EXPECT_EQ(column(file.stage_folder / "metrics.csv", decisive),
              column(folder_ / "prompt" / "metrics.csv", decisive))
        << decisive;
}

TEST_F(TrainerTest, WithLateResultsAStopComesAfterTheStepThatIsUnderWay) {
  const End whole = run(stage("whole", testing::toy_resnet(), 1));
  late_results_ = true;
  const config::StageFile file = stage("stopped", testing::toy_resnet(), 1);
  request_stop();
  const End stopped = run(file);
  EXPECT_EQ(stopped.code, ExitCode::kInterrupted);
  EXPECT_EQ(stopped.progress.step, 2);
  clear_stop();
  EXPECT_EQ(run(file).hash, whole.hash);
}

TEST_F(TrainerTest, WithLateResultsCheckpointsByStepsAreOnTheDot) {
  const End whole = run(stage("whole", testing::toy_vit(), 2));
  late_results_ = true;
  config::StageFile file = stage("resumed", testing::toy_vit(), 2);
  file.stage.checkpoint.every_steps = 5;
  file.stage.checkpoint.keep = 9;
  run(file);
  EXPECT_TRUE(std::filesystem::exists(file.stage_folder / "checkpoints" / "step-000000005"));
  EXPECT_TRUE(std::filesystem::exists(file.stage_folder / "checkpoints" / "step-000000010"));
  forget_after(file, 5);
  EXPECT_EQ(run(file).hash, whole.hash);
}

TEST_F(TrainerTest, AFinishedStageOnlyWritesItsResultAgain) {
  config::StageFile file = stage("again", testing::toy_vit(), 1);
  End first = run(file);
  std::string result = read_file(file.stage_folder / "result.json");
  std::filesystem::remove(file.stage_folder / "result.json");
  EXPECT_EQ(run(file).hash, first.hash);
  EXPECT_EQ(read_file(file.stage_folder / "result.json"), result);
}

TEST_F(TrainerTest, StartsFromTheAverageOfAnotherStageAtAnotherSize) {
  config::StageFile first = stage("first", testing::toy_vit(), 1);
  End trained = run(first);
  config::StageFile second = stage("second", testing::toy_vit(), 1);
  second.init_folder = first.stage_folder;
  second.stage.init.stage = "first";
  testing::ToyJob job(second, alone_);
  Trainer trainer = job.trainer();
  EXPECT_TRUE(trainer.state().values().equal(trained.ema));

  second.stage_folder = folder_ / "larger";
  second.stage.model.image_size = 28;
  testing::ToyJob larger(second, alone_);
  EXPECT_EQ(larger.trainer().run(), ExitCode::kDone);
}

TEST_F(TrainerTest, NamesTheStepWhereTrainingDiverged) {
  config::StageFile file = stage("diverges", testing::toy_vit(), 2);
  file.stage.optimizer.lr = 1e30;
  file.stage.optimizer.clip_norm = 0;
  file.stage.schedule.warmup_epochs = 0;
  try {
    run(file);
    FAIL() << "no NonFiniteError";
  } catch (const NonFiniteError& error) {
    EXPECT_THAT(error.what(), HasSubstr("step "));
    EXPECT_EQ(error.exit_code(), ExitCode::kFailure);
  }
}

TEST_F(TrainerTest, WritesTheMicrobatchThatIsNotFinite) {
  config::StageFile file = stage("diverges", testing::toy_vit(), 2);
  file.stage.optimizer.lr = 1e30;
  file.stage.optimizer.clip_norm = 0;
  file.stage.schedule.warmup_epochs = 0;
  EXPECT_THROW(run(file), NonFiniteError);
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(file.stage_folder / "non-finite"))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end(), std::greater<>());
  ASSERT_EQ(files.size(), 2u);
  EXPECT_TRUE(files[1].string().ends_with("-model.safetensors"));
  EXPECT_TRUE(model::read_tensors(files[1]).contains("blocks.0.norm1.weight"));
  const auto tensors = model::read_tensors(files[0]);
  EXPECT_EQ(tensors.at("input").sizes(), (std::vector<std::int64_t>{4, 1, 14, 14}));
  EXPECT_EQ(tensors.at("target").sizes(), (std::vector<std::int64_t>{4, 4}));
  EXPECT_EQ(tensors.at("kept.0").numel(), 6);  // of 2 x 4 rows at a drop rate of 0.25
}

/// A file where the folder should be stands for whatever can go wrong there.
TEST_F(TrainerTest, WhatCannotBeExplainedTakesNoErrorsPlaceAndEndsNoRun) {
  for (const config::NonFinite rule : {config::NonFinite::kStop, config::NonFinite::kSkip}) {
    const bool stops = rule == config::NonFinite::kStop;
    config::StageFile file = stage(stops ? "stops" : "skips", testing::toy_vit(), 9);
    file.stage.optimizer.lr = 1e30;
    file.stage.optimizer.clip_norm = 0;
    file.stage.schedule.warmup_epochs = 0;
    file.stage.non_finite = rule;
    std::filesystem::create_directories(file.stage_folder);
    write_file_atomically(file.stage_folder / "non-finite", "in the way\n");
    try {
      run(file);
      FAIL() << "no NonFiniteError";
    } catch (const NonFiniteError& error) {
      EXPECT_THAT(error.what(), HasSubstr(stops ? "training diverged" : "20 steps in a row"));
    }
  }
}

/// The first step that is left out has the next one behind it when its microbatch is looked for.
TEST_F(TrainerTest, WithLateResultsTheFileSaysThatTheWeightsAreLater) {
  for (const bool late : {false, true}) {
    late_results_ = late;
    config::StageFile file = stage(late ? "late" : "prompt", testing::toy_vit(), 9);
    file.stage.optimizer.lr = 1e30;
    file.stage.optimizer.clip_norm = 0;
    file.stage.schedule.warmup_epochs = 0;
    file.stage.non_finite = config::NonFinite::kSkip;
    EXPECT_THROW(run(file), NonFiniteError);
    std::set<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(file.stage_folder / "non-finite")) {
      const auto metadata = model::read_metadata(entry.path());
      if (metadata.contains("later_updates")) found.insert(metadata.at("later_updates"));
    }
    EXPECT_EQ(found, std::set<std::string>{late ? "1" : "0"});
  }
}

TEST_F(TrainerTest, GivesUpWhenSkippingDoesNotHelp) {
  config::StageFile file = stage("skips", testing::toy_vit(), 9);
  file.stage.optimizer.lr = 1e30;
  file.stage.optimizer.clip_norm = 0;
  file.stage.schedule.warmup_epochs = 0;
  file.stage.non_finite = config::NonFinite::kSkip;
  EXPECT_THAT(error_of<NonFiniteError>([&] { run(file); }), HasSubstr("20 steps in a row"));
}

/// Diverges with its second step.
config::StageFile diverging(config::StageFile file) {
  file.stage.optimizer.lr = 1e30;
  file.stage.optimizer.clip_norm = 0;
  file.stage.schedule.warmup_epochs = 0;
  return file;
}

TEST_F(TrainerTest, TellsHowARunThatDivergedGoesOn) {
  config::StageFile file = diverging(stage("told", testing::toy_vit(), 9));
  file.stage.checkpoint.every_steps = 1;
  const std::string error = error_of<NonFiniteError>([&] { run(file); });
  EXPECT_THAT(error, HasSubstr("With non_finite: skip the same run leaves such steps out"));
  EXPECT_THAT(error,
              HasSubstr("another run: give it another name (--set name=...); its init.weights may be " +
                        (file.stage_folder / "checkpoints/step-000000001/model.safetensors").string()));
  // As it says: the same run, from its newest checkpoint.
  file.stage.non_finite = config::NonFinite::kSkip;
  EXPECT_THAT(error_of<NonFiniteError>([&] { run(file); }), HasSubstr("step 20: 20 steps in a row"));
}

/// However often the stage is started again.
TEST_F(TrainerTest, CountsStepsLeftOutInARowOverRestarts) {
  config::StageFile file = diverging(stage("restarted", testing::toy_vit(), 9));
  file.stage.non_finite = config::NonFinite::kSkip;
  for (int step = 1; step <= 12; ++step) {
    request_stop();
    EXPECT_EQ(run(file).code, ExitCode::kInterrupted);
    clear_stop();
  }
  EXPECT_THAT(error_of<NonFiniteError>([&] { run(file); }), HasSubstr("step 20: 20 steps in a row"));
}

TEST_F(TrainerTest, WritesNoCheckpointWhileStepsAreLeftOut) {
  config::StageFile file = diverging(stage("streak", testing::toy_vit(), 9));
  file.stage.non_finite = config::NonFinite::kSkip;
  file.stage.checkpoint.every_steps = 4;
  EXPECT_THROW(run(file), NonFiniteError);
  EXPECT_FALSE(std::filesystem::exists(file.stage_folder / "checkpoints"));
}

TEST_F(TrainerTest, ThatLearnedNothingIsNoSuccess) {
  config::StageFile file = stage("nothing", testing::toy_vit(), 1);
  file.stage.data.std = {1e-45};  // pixels become infinite
  file.stage.non_finite = config::NonFinite::kSkip;
  EXPECT_THAT(error_of<NonFiniteError>([&] { run(file); }), HasSubstr("none of the 6 steps was finite"));
  EXPECT_FALSE(std::filesystem::exists(file.stage_folder / "result.json"));
}

TEST_F(TrainerTest, FollowsTheScheduleOfTheLearningRate) {
  config::StageFile file = stage("rates", testing::toy_vit(), 2);
  file.stage.log_every_steps = 1;
  file.stage.schedule.warmup_lr = 1e-4;
  file.stage.schedule.min_lr = 1e-5;
  run(file);
  const std::vector<double> rates = column(file.stage_folder / "metrics.csv", 4);
  const Schedule schedule(file.stage.schedule, file.stage.optimizer.lr, 6);
  ASSERT_EQ(rates.size(), 12u);
  for (std::size_t step = 0; step < rates.size(); ++step)
    EXPECT_NEAR(rates[step], schedule.learning_rate(static_cast<std::int64_t>(step)), 1e-9) << step;
}

/// Each of them changes the run, or it would not have arrived in the steps.
TEST_F(TrainerTest, HandsLambdaAndLayerDecayToItsSteps) {
  const std::string plain = run(stage("plain", testing::toy_vit(), 1)).hash;
  config::StageFile warm = stage("warm", testing::toy_vit(), 1);
  warm.stage.cosub.lambda_warmup_epochs = 0.5;
  EXPECT_NE(run(warm).hash, plain);
  config::StageFile decayed = stage("decayed", testing::toy_vit(), 1);
  decayed.stage.optimizer.layer_decay = 0.5;
  EXPECT_NE(run(decayed).hash, plain);
}

TEST_F(TrainerTest, ScalesANewClassifierAsAsked) {
  config::StageFile first = stage("first", testing::toy_vit(), 1);
  run(first);
  const auto head_of = [&](const std::string& name, double scale) {
    config::StageFile file = stage(name, testing::toy_vit(), 1);
    file.init_folder = first.stage_folder;
    file.stage.init = {.stage = "first", .weights = "model", .head = "replace", .head_scale = scale};
    testing::ToyJob job(file, alone_);
    Trainer trainer = job.trainer();
    for (const Slot& slot : trainer.state().parameters())
      if (slot.name == "head.weight") return FlatState::view(trainer.state().values(), slot).clone();
    throw std::logic_error("no head.weight");
  };
  const at::Tensor whole = head_of("whole", 1), scaled = head_of("scaled", 0.001);
  EXPECT_GT(whole.norm().item<double>(), 0);
  EXPECT_TRUE(scaled.equal(whole * 0.001));
}

TEST_F(TrainerTest, LibTorchsErrorsAreToldWithoutItsStack) {
  const std::string error =
      error_of<AgreedError>([&] { on_all_ranks(alone_, "a test", [] { TORCH_CHECK(false, "no memory"); }); });
  EXPECT_THAT(error, HasSubstr("no memory"));
  EXPECT_THAT(error, ::testing::Not(HasSubstr("most recent call first")));
}

TEST_F(TrainerTest, RefusesABatchLargerThanTheTrainingSet) {
  config::StageFile file = stage("large", testing::toy_vit(), 1);
  file.stage.batch = {.global = 128, .micro = 16};
  testing::ToyJob job(file, alone_);
  try {
    job.trainer();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kBadInput);
    EXPECT_THAT(error.what(), HasSubstr("more than the 96 training samples"));
  }
}

TEST_F(TrainerTest, AsManyBadSamplesAsTheShareAllowsAreTrainedWithout) {
  config::StageFile file = stage("bad", testing::toy_vit(), 2);
  bad_ = {3, 14, 15, 92, 65};
  file.stage.data.max_bad_share = 5.0 / 96;
  const End end = run(file);
  EXPECT_EQ(end.code, ExitCode::kDone);
  EXPECT_EQ(end.progress.bad_samples, bad_);
}

TEST_F(TrainerTest, WithMoreItStopsAndGoesOnFromItsCheckpointWhenTheShareIsRaised) {
  const auto with_share = [this](const std::string& name, double share) {
    config::StageFile file = stage(name, testing::toy_vit(), 2);
    file.stage.data.max_bad_share = share;
    file.stage.checkpoint.every_steps = 1;
    return file;
  };
  bad_ = {3, 14, 15, 92, 65};
  const End whole = run(with_share("whole", 1));
  try {
    run(with_share("raised", 0.03));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kBadInput);
    EXPECT_THAT(error.what(), HasSubstr("of the 96 training samples are bad ("));
    EXPECT_THAT(error.what(), HasSubstr("data.max_bad_share allows 2 of them (3.00 %). They are listed in " +
                                        (folder_ / "raised/bad_samples.tsv").string()));
    EXPECT_THAT(error.what(), HasSubstr("cut short. Repair the data, or raise data.max_bad_share"));
  }
  ASSERT_FALSE(std::filesystem::is_empty(folder_ / "raised/checkpoints"));
  const config::StageFile raised = with_share("raised", 0.06);
  testing::ToyJob job(raised, alone_);
  job.train = std::make_shared<testing::WithBadSamples>(job.train, bad_);
  Trainer trainer = job.trainer();
  EXPECT_GT(trainer.progress().step, 0);
  EXPECT_EQ(trainer.run(), ExitCode::kDone);
  EXPECT_EQ(trainer.state().hash(), whole.hash);
  EXPECT_EQ(trainer.progress().bad_samples, bad_);
}

TEST_F(TrainerTest, RefusesToGoOnWithAnotherConfiguration) {
  config::StageFile file = stage("changed", testing::toy_vit(), 1);
  run(file);
  file.stage.optimizer.weight_decay = 0.5;
  testing::ToyJob job(file, alone_);
  try {
    job.trainer();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("weight_decay: 0.5"));
    EXPECT_EQ(error.exit_code(), ExitCode::kBadInput);
  }
}

}  // namespace
}  // namespace cosub::train
