// The same stage on any number of ranks: run under mpirun with 1, 2 and 3 ranks. Each rank first runs the
// stage alone, in this process, then all run it together, and both must give the same bits.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "common/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/collective/mpi_world.h"
#include "tests/worker/train/toy_stage.h"
#include "worker/collective/single_communicator.h"
#include "worker/train/agreement.h"
#include "worker/train/snapshot.h"
#include "worker/train/stop_flag.h"
#include "worker/train/trainer.h"

namespace cosub::train {
namespace {

using testing::world;

class TrainerRanks : public ::testing::Test {
 protected:
  ~TrainerRanks() override { clear_stop(); }

  /// One set of samples for all ranks, written once: where they lie is part of a run's identity.
  void SetUp() override {
    data_ = shared() / "data";
    if (world().rank() == 0) testing::toy_stage(data_, data_, testing::toy_vit(), 1);
    world().barrier("the samples");
  }

  /// Rank 0's folder goes with its test, so nobody leaves before all have looked.
  void TearDown() override { world().barrier("the end of the test"); }

  /// A folder that all ranks see: rank 0's.
  std::filesystem::path shared() { return text_of_rank_0(world(), folder_.path().string(), "shared folder"); }

  config::StageFile stage(const std::filesystem::path& stage_folder, const config::ModelConfig& model) {
    config::StageFile file = testing::toy_stage(folder_ / "own", stage_folder, model, 2);
    for (auto* idx : {&*file.stage.data.train.idx, &*file.stage.data.val.idx}) {
      idx->images = data_ / idx->images.filename();
      idx->labels = data_ / idx->labels.filename();
    }
    file.stage.batch = {.global = 20, .micro = 4};  // five microbatches: uneven for two and three ranks
    return file;
  }

  static std::pair<ExitCode, std::string> run(const config::StageFile& file,
                                              collective::Communicator& communicator,
                                              bool late_results = false) {
    testing::ToyJob job(file, communicator);
    job.job.late_results = late_results;
    Trainer trainer = job.trainer();
    ExitCode code = trainer.run();
    return {code, trainer.state().hash()};
  }

  testing::TemporaryFolder folder_;
  std::filesystem::path data_;
  collective::SingleCommunicator alone_;
};

TEST_F(TrainerRanks, GiveTheBitsOfOneRank) {
  for (const config::ModelConfig& model : {testing::toy_resnet(), testing::toy_vit()}) {
    std::string one = run(stage(folder_ / ("alone-" + model.name), model), alone_).second;
    auto [code, together] = run(stage(shared() / ("together-" + model.name), model), world());
    EXPECT_EQ(code, ExitCode::kDone);
    EXPECT_EQ(together, one) << model.name;
  }
}

/// As on GPUs. One rank hears of a stop; all must come to it, and to checkpoints, at the same step.
TEST_F(TrainerRanks, WithLateResultsStopTogetherAndGiveTheSameBits) {
  const auto with_checkpoints = [this](const std::filesystem::path& folder) {
    config::StageFile file = stage(folder, testing::toy_resnet());
    file.stage.checkpoint.every_steps = 3;
    file.stage.check_parameters_every_steps = 2;
    return file;
  };
  const std::string one = run(with_checkpoints(folder_ / "alone"), alone_).second;
  const std::filesystem::path folder = shared() / "late";
  if (world().rank() == world().world_size() - 1) request_stop();
  EXPECT_EQ(run(with_checkpoints(folder), world(), /*late_results=*/true).first, ExitCode::kInterrupted);
  EXPECT_TRUE(std::filesystem::exists(folder / "checkpoints" / "step-000000002"));
  clear_stop();
  EXPECT_EQ(run(with_checkpoints(folder), world(), /*late_results=*/true).second, one);
}

TEST_F(TrainerRanks, GoOnFromACheckpointOfAnotherNumberOfRanks) {
  std::string one = run(stage(folder_ / "alone", testing::toy_resnet()), alone_).second;
  std::filesystem::path folder = shared() / "handed-over";
  if (world().rank() == 0) {
    request_stop();  // one rank, one step, a checkpoint
    EXPECT_EQ(run(stage(folder, testing::toy_resnet()), alone_).first, ExitCode::kInterrupted);
    clear_stop();
  }
  world().barrier("the first part");
  EXPECT_EQ(run(stage(folder, testing::toy_resnet()), world()).second, one);
}

TEST_F(TrainerRanks, StopTogetherWhenOneIsAsked) {
  if (world().rank() == world().world_size() - 1) request_stop();
  std::filesystem::path folder = shared() / "stopped";
  EXPECT_EQ(run(stage(folder, testing::toy_vit()), world()).first, ExitCode::kInterrupted);
  EXPECT_TRUE(std::filesystem::exists(folder / "checkpoints" / "step-000000001"));
}

TEST_F(TrainerRanks, StopForBadSamplesAtTheSameStepAsOneRankDoes) {
  const auto why_stopped = [](config::StageFile file, collective::Communicator& communicator) {
    file.stage.data.max_bad_share = 0.07;
    testing::ToyJob job(file, communicator);
    job.train = std::make_shared<testing::WithBadSamples>(
        job.train, std::set<std::int64_t>{1, 11, 21, 31, 41, 51, 61, 71, 81, 91});
    Trainer trainer = job.trainer();
    try {
      trainer.run();
    } catch (const AgreedError& error) {
      const std::string why = error.what();
      return why.substr(0, why.find(". They are listed"));  // in another file, in another order
    }
    return std::string("not stopped");
  };
  const std::string alone = why_stopped(stage(folder_ / "alone", testing::toy_vit()), alone_);
  EXPECT_THAT(alone, ::testing::HasSubstr("of the 96 training samples are bad"));
  EXPECT_EQ(why_stopped(stage(shared() / "bad", testing::toy_vit()), world()), alone);
}

/// What rounding lost on each rank is in the checkpoint.
TEST_F(TrainerRanks, ResumeBitForBitWithErrorFeedback) {
  if (world().world_size() == 1) return;  // nothing is rounded
  const auto compressed = [this](const std::string& name) {
    config::StageFile file = stage(shared() / name, testing::toy_vit());
    file.stage.reduction = config::Reduction::kFast;
    file.stage.exchange.compress = config::Compress::kBf16;
    file.stage.exchange.error_feedback = true;
    return file;
  };
  const std::string whole = run(compressed("whole"), world()).second;
  const config::StageFile file = compressed("resumed");
  request_stop();
  EXPECT_EQ(run(file, world()).first, ExitCode::kInterrupted);
  clear_stop();
  EXPECT_EQ(run(file, world()).second, whole);
}

TEST_F(TrainerRanks, OnAnotherNumberOfRanksTheSumOfWhatRoundingLostIsKept) {
  testing::ToyJob job(stage(shared() / "kept", testing::toy_vit()), world());
  const auto model = model::create(job.job.stage().model, 5);
  const FlatState state(*model);
  const std::int64_t rank = world().rank(), world_size = world().world_size();
  const auto numbers = [&](std::int64_t of_rank) {
    return (at::arange(state.num_parameters() + 3, at::kFloat) + static_cast<double>(of_rank)).sin();
  };
  checkpoint::Snapshot snapshot;
  add_kept(snapshot, world(), state, {numbers(rank)});
  EXPECT_EQ(snapshot.files.size(), static_cast<std::size_t>(rank == 0 ? world_size : 0));
  const auto of_parameters = [&](const at::Tensor& flat) {  // not what lies between and after them
    std::vector<at::Tensor> parts;
    for (const Slot& slot : state.parameters()) parts.push_back(FlatState::view(flat, slot).flatten());
    return at::cat(parts);
  };
  const at::Tensor same = at::zeros_like(numbers(0)), other = at::zeros_like(same);
  restore_kept(rank == 0 ? &snapshot : nullptr, world(), state, {same}, "here");
  EXPECT_TRUE(of_parameters(same).equal(of_parameters(numbers(rank))));

  if (rank == 0)
    snapshot.files["exchange-" + std::to_string(world_size)] = snapshot.files.at("exchange-0");  // one more
  restore_kept(rank == 0 ? &snapshot : nullptr, world(), state, {other}, "here");
  at::Tensor wanted = at::zeros_like(same);
  for (std::int64_t r = 0; rank == 0 && r <= world_size; ++r) wanted += numbers(r % world_size);
  EXPECT_TRUE(of_parameters(other).equal(of_parameters(wanted)));
}

TEST_F(TrainerRanks, CompareTheirParametersAtTheStartAndAsOftenAsAsked) {
  if (world().world_size() == 1) return;  // nobody to differ from
  const bool is_last = world().rank() == world().world_size() - 1;
  config::StageFile file = stage(shared() / "differs", testing::toy_vit());
  file.stage.check_parameters_every_steps = 3;
  {
    testing::ToyJob job(file, world());
    Trainer trainer = job.trainer();
    if (is_last) trainer.state().values().narrow(0, 0, 1).add_(1);
    try {
      trainer.run();
      ADD_FAILURE() << "no error";
    } catch (const AgreedError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("the hash of the parameters after step 3"));
    }
  }
  testing::ToyJob job(file, world());
  if (is_last) ++job.job.stream;  // another random start
  try {
    job.trainer();
    ADD_FAILURE() << "no error";
  } catch (const AgreedError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("the hash of the parameters at the start"));
  }
}

/// Rank 0's storage answers later than any rank may wait in a step.
TEST_F(TrainerRanks, WaitLongerForACheckpointThanInAStep) {
  const std::chrono::milliseconds usual = world().limit(), short_limit(3000);
  config::StageFile file = stage(shared() / "slow", testing::toy_vit());
  file.stage.checkpoint.every_steps = 2;
  std::jthread storage;
  if (world().rank() == 0) {
    std::filesystem::create_directories(file.stage_folder);
    const std::filesystem::path fence = file.stage_folder / "fence";  // read before anything is written
    ASSERT_EQ(mkfifo(fence.c_str(), 0600), 0);
    storage = std::jthread([fence, short_limit] {
      const int pipe = open(fence.c_str(), O_WRONLY);  // waits for the reader
      std::filesystem::remove(fence);                  // later readers find none
      std::this_thread::sleep_for(short_limit * 3 / 2);
      EXPECT_EQ(write(pipe, "0\n", 2), 2);
      close(pipe);
    });
  }
  world().set_limit(short_limit);
  EXPECT_EQ(run(file, world()).first, ExitCode::kDone);
  world().set_limit(usual);
}

TEST_F(TrainerRanks, OneOfThemWritesTheMicrobatchThatIsNotFinite) {
  config::StageFile file = stage(shared() / "diverges", testing::toy_vit());
  file.stage.optimizer.lr = 1e30;
  file.stage.optimizer.clip_norm = 0;
  file.stage.schedule.warmup_epochs = 0;
  EXPECT_THROW(run(file, world()), NonFiniteError);
  world().barrier("the end of all");
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(file.stage_folder / "non-finite"))
    names.push_back(entry.path().filename());
  ASSERT_EQ(names.size(), 2u);
  for (const std::string& name : names)
    EXPECT_THAT(name, ::testing::HasSubstr("microbatch-0"));  // all are: the lowest
}

TEST_F(TrainerRanks, EvaluateEachImageOnceInUnevenSplits) {
  config::StageFile file = stage(folder_ / "eval", testing::toy_vit());
  auto model = model::create(file.stage.model, 5);
  const std::shared_ptr<const data::Source> val = data::open_source(file.stage.data.val, 1, 4);
  for (std::int64_t batch : {3, 10, 34}) {  // 12, 4 and 1 batches
    Evaluation evaluation{
        .source = val, .data = file.stage.data, .pass = {}, .batch_images = batch, .on_progress = {}};
    EvalResult one = evaluate(*model, alone_, evaluation);
    EvalResult together = evaluate(*model, world(), evaluation);
    EXPECT_EQ(together.images, 34);
    EXPECT_EQ(together.top1, one.top1);
    EXPECT_EQ(together.loss, one.loss);
  }
}

TEST_F(TrainerRanks, RefuseToBeMoreThanTheMicrobatches) {
  config::StageFile file = stage(shared() / "few", testing::toy_vit());
  file.stage.batch = {.global = 4, .micro = 4};
  if (world().world_size() == 1) return;
  testing::ToyJob job(file, world());
  try {
    job.trainer();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kBadInput);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("largest useful number of ranks is 1"));
  }
}

TEST_F(TrainerRanks, AllThrowTheErrorOfTheOneThatFailed) {
  std::int64_t last = world().world_size() - 1;
  try {
    on_all_ranks(world(), "a test", [&] {
      if (world().rank() == last) throw DataError("labels are cut short");
    });
    FAIL() << "no AgreedError";
  } catch (const AgreedError& error) {
    EXPECT_STREQ(error.what(), "labels are cut short");
    EXPECT_EQ(error.exit_code(), ExitCode::kBadInput);
    EXPECT_EQ(error.rank(), last);
  }
}

TEST_F(TrainerRanks, NameTheRankThatDiffers) {
  if (world().world_size() == 1) return;
  try {
    check_equal_on_all_ranks(world(), world().rank() == 1 ? "b" : "a", "the hash");
    FAIL() << "no AgreedError";
  } catch (const AgreedError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("rank 1 (b)"));
  }
}

}  // namespace
}  // namespace cosub::train
