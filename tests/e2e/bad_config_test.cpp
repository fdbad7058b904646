// Pipeline files and command lines that cannot be run: refused before anything starts, with the place and the
// remedy.
#include <fstream>

#include "tests/e2e/bad_input.h"

namespace cosub::testing {
namespace {

namespace fs = std::filesystem;

struct Spoiled {
  const char* name;
  const char *from, *to;           // in the tiny pipeline
  std::vector<std::string> words;  // that the message has to have
};

class BadConfig : public BadInput, public ::testing::WithParamInterface<Spoiled> {};

TEST_P(BadConfig, IsRefusedWithPlaceAndRemedy) {
  write_pipeline(replaced(tiny_pipeline(runs()), GetParam().from, GetParam().to));
  expect_refusal(run(), ExitCode::kBadInput, GetParam().words);
  EXPECT_FALSE(fs::exists(runs()));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadConfig,
    ::testing::Values(
        Spoiled{"UnknownKey", "grace", "graze", {"tiny.yaml:4:", "cluster.graze", "Did you mean 'grace'?"}},
        Spoiled{"UnknownKeyInsideArch", "stem_width", "stem_widht", {"tiny.yaml:7:", "'stem_width'?"}},
        Spoiled{"IllTypedValue",
                "epochs: 3",
                "epochs: many",
                {"tiny.yaml:19:38", "stages[0].schedule.epochs", "'many'", "a number > 0"}},
        Spoiled{"ValueOutOfRange", "lr: 3e-3", "lr: -1", {"tiny.yaml:12:", "defaults.optimizer.lr", "'-1'"}},
        Spoiled{"UnknownUnit", "grace: 20s", "grace: 20 parsecs", {"tiny.yaml:4:", "cluster.grace", "30s"}},
        Spoiled{"UnknownChoice", "backend: mpirun", "backend: slrum", {"tiny.yaml:4:", "'slrum'", "mpirun"}},
        Spoiled{"KeyGivenTwice", "seed: 3", "seed: 3\nseed: 4", {"tiny.yaml:3:1", "seed", "line 2"}},
        Spoiled{"NoYaml", "backoff: 100ms", "backoff: [100ms", {"tiny.yaml:4:", "not valid YAML"}},
        Spoiled{"CyclicStages",
                "task: classify\n",
                "task: classify\n    after: [export]\n",
                {"tiny.yaml:", "cycle", "pretrain -> export -> pretrain"}},
        Spoiled{"UnknownStage", "stage: pretrain", "stage: pretrian", {"tiny.yaml:22:19", "'pretrain'?"}},
        Spoiled{"TwoStagesOfOneName", "name: export", "name: pretrain", {"tiny.yaml:20:11", "a second time"}},
        Spoiled{"MoreRanksThanMicrobatches", "ranks: 1", "ranks: 3", {"tiny.yaml:4:", "1 to 2"}},
        Spoiled{"BatchThatIsNoMultiple", "micro: 16", "micro: 24", {"defaults.batch.global", "multiple"}}),
    [](const auto& each) { return each.param.name; });

using BadCommand = BadInput;

TEST_F(BadCommand, UnknownModelIsNamedWithTheNearestKnownOne) {
  write_pipeline(replaced(tiny_pipeline(runs()), "name: resnet18", "name: resnet81"));
  expect_refusal(run(), ExitCode::kBadInput, {"model.name", "'resnet81'", "Did you mean 'resnet18'?"});
}

/// All that only the second stage would have stumbled over, at once and with its place.
TEST_F(BadCommand, LaterStageThatCannotRunIsRefusedBeforeTheFirstOneStarts) {
  write_pipeline(replaced(tiny_pipeline(runs()), "  - name: export\n",
                          "  - name: finetune\n"
                          "    init: {stage: pretrain}\n"
                          "    model: {arch: {depth: 3}}\n"
                          "  - name: evaluate\n"
                          "    task: evaluate\n"
                          "    init: {stage: pretrain}\n"
                          "    submodels: [{name: most, keep: 'first:6'}]\n"
                          "  - name: export\n"));
  const std::vector<std::string> words = {
      "tiny.yaml:22:27: stages[1].model.arch.depth: not a key of resnet18",
      "tiny.yaml:26:36: stages[2].submodels[0].keep: 'first:6'", "the model has 4"};
  expect_refusal(run({"--dry-run"}), ExitCode::kBadInput, words);
  expect_refusal(run(), ExitCode::kBadInput, words);
  expect_refusal(
      run_program({program("cosub"), "submit", folder_ / "tiny.yaml", "--state", folder_ / "state"}),
      ExitCode::kBadInput, words);
  EXPECT_FALSE(fs::exists(runs()));
}

TEST_F(BadCommand, DropRateThatWholeRowsCannotMeetIsRefused) {
  write_pipeline(replaced(tiny_pipeline(runs()), "drop_rate: 0.0", "drop_rate: 0.1"));
  expect_refusal(
      run(), ExitCode::kBadInput,
      {"model.drop_rate", "found 0.1 with batch.micro", "a drop rate of 0.125", "a larger batch.micro"});
}

TEST_F(BadCommand, SetOfAnUnknownKeyIsRefused) {
  expect_refusal(run({"--set", "stages.pretrain.optimizer.lrr=1"}), ExitCode::kBadInput,
                 {"--set stages.pretrain.optimizer.lrr", "Did you mean 'lr'?"});
  expect_refusal(run({"--set", "stages.pretrian.optimizer.lr=1"}), ExitCode::kBadInput,
                 {"--set stages.pretrian", "pretrain, export"});
  expect_refusal(run({"--set", "seed"}), ExitCode::kBadInput, {"--set seed", "KEY=VALUE"});
}

TEST_F(BadCommand, FileThatIsNoPipelineIsNamed) {
  expect_refusal(run_program({program("cosub"), "run", "/nonexistent/a.yaml"}), ExitCode::kBadInput,
                 {"/nonexistent/a.yaml", "cannot be read"});
  expect_refusal(run_program({program("cosub"), "run", folder_.path()}), ExitCode::kBadInput,
                 {folder_.path().string(), "it is a folder"});
  write_pipeline("");
  expect_refusal(run(), ExitCode::kBadInput, {"tiny.yaml:1:1", "name", "stages"});
  write_pipeline("\x89PNG\r\n\x1a\n");
  expect_refusal(run(), ExitCode::kBadInput, {"tiny.yaml:1:", "not UTF-8 text"});
}

TEST_F(BadCommand, WrongCommandLineEndsWith64) {
  expect_refusal(run_program({program("cosub"), "run"}), ExitCode::kUsage, {"pipeline is required"});
  expect_refusal(run_program({program("cosub"), "rnu"}), ExitCode::kUsage, {"'rnu'", "cosub --help"});
  expect_refusal(run({"--bogus"}), ExitCode::kUsage, {"--bogus", "--help"});
}

/// The seed decides the numbers: they must not be mixed with those of the run that is there.
TEST_F(BadCommand, OtherSettingsUnderANameThatIsTakenAreRefusedAndTheRunIsKept) {
  write_pipeline(replaced(tiny_pipeline(runs()), "epochs: 3", "epochs: 1"));
  expect_success(run());
  expect_refusal(run({"--set", "seed=4"}), ExitCode::kBadInput,
                 {"tiny", "seed: 3, now 4", "Stage pretrain has a result",
                  "--set name=", run_folder().string(), "init: {weights: ", "ema.safetensors}"});
  expect_success(run());
  EXPECT_FALSE(fs::exists(run_folder() / "pretrain" / "attempts" / "2"));
}

/// A typo that no check before the run can find: the class map of a stage that evaluates.
TEST_F(BadCommand, LaterStageThatFailedMayBeMendedUnderTheSameName) {
  const std::string text =
      replaced(replaced(tiny_pipeline(runs()), "epochs: 3", "epochs: 1"), "  - name: export\n",
               "  - name: evaluate\n"
               "    task: evaluate\n"
               "    init: {stage: pretrain}\n"
               "    data: {val: {idx: {images: data/train-labels-idx1-ubyte}}}\n"
               "  - name: export\n");
  write_pipeline(text);
  EXPECT_EQ(run().exit_code, static_cast<int>(ExitCode::kBadInput));
  write_pipeline(replaced(text, "data/train-labels-idx1-ubyte}}}", "data/val-images-idx3-ubyte.gz}}}"));
  expect_success(run());
  EXPECT_FALSE(fs::exists(run_folder() / "pretrain" / "attempts" / "2"));
  EXPECT_TRUE(fs::exists(run_folder() / "evaluate" / "attempts" / "2"));
}

}  // namespace
}  // namespace cosub::testing
