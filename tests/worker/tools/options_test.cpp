// What is wrong with options of the tools is said before any work, of the option, in plain words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "common/atomic_file.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/model/model.h"
#include "worker/tools/arch_option.h"
#include "worker/tools/bench_commands.h"
#include "worker/tools/bench_optimizer.h"
#include "worker/tools/data_commands.h"
#include "worker/tools/memory_use.h"
#include "worker/tools/output_file.h"
#include "worker/tools/which_weights.h"

namespace cosub::tools {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TemporaryFolder;

/// Of the command line; "" where it is accepted.
std::string refusal(std::vector<std::string> words) {
  CLI::App app;
  std::function<ExitCode()> chosen;
  add_bench_commands(app, chosen);
  add_data_commands(app, chosen);
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
  return "";
}

TEST(Numbers, OutOfBoundsAreToldWhatIsAllowed) {
  EXPECT_EQ(refusal({"bench", "step", "--images", "0"}), "--images: found 0; allowed: a whole number >= 1");
  EXPECT_EQ(refusal({"bench", "step", "--classes", "1.5"}),
            "--classes: found 1.5; allowed: a whole number >= 1");
  EXPECT_EQ(refusal({"data", "order", "p.yaml", "--step", "-1"}),
            "--step: found -1; allowed: a whole number >= 0");
  EXPECT_EQ(refusal({"bench", "optimizer", "--parameters", "99999999999999999999"}),
            "--parameters: found 99999999999999999999; allowed: a whole number <= 9223372036854775807");
  EXPECT_EQ(refusal({"data", "pack", "--output", "o", "--quality", "101"}),
            "--quality: found 101; allowed: a whole number from 1 to 100");
  EXPECT_EQ(refusal({"data", "bench", "--seconds", "0"}), "--seconds: found 0; allowed: a number > 0");
  EXPECT_EQ(refusal({"data", "bench", "--flip", "nan"}), "--flip: found nan; allowed: a number from 0 to 1");
  EXPECT_EQ(refusal({"bench", "step", "--drop-rate", "1"}),
            "--drop-rate: found 1; allowed: a number >= 0 and < 1");
  EXPECT_EQ(refusal({"bench", "step", "--drop-rate", "5e-1", "--images", "16"}), "");
}

std::string arch_refusal(const std::string& model, const std::string& entry) {
  config::ModelConfig config;
  config.name = model;
  return error_of<ConfigError>([&] { set_arch(config, {entry}); });
}

TEST(Arch, IsNamedAsTheOption) {
  EXPECT_THAT(arch_refusal("deit3_small_patch16_224", "depth=x"), HasSubstr("--arch depth: found 'x'"));
  EXPECT_THAT(arch_refusal("resnet18", "depth"), HasSubstr("must be KEY=VALUE"));
  config::ModelConfig config;
  config.name = "resnet18";
  config.classes = 4;
  set_arch(config, {"depth=6"});
  EXPECT_THAT(
      error_of<ConfigError>([&] { with_arch_option([&] { return model::create(config, std::nullopt); }); }),
      HasSubstr("--arch depth: not a key of resnet18"));
}

TEST(Arch, ListsTheKeysOfTheModelsFamily) {
  const std::string text = arch_refusal("resnet18", "foo=1");
  EXPECT_THAT(text, HasSubstr("--arch foo: not a key of resnet18"));
  EXPECT_THAT(text, HasSubstr("stem_width"));
  EXPECT_THAT(text, Not(HasSubstr("embed_dim")));
  EXPECT_THAT(arch_refusal("resnet17", "foo=1"), HasSubstr("'resnet17' is not known"));
}

TEST(OutputFile, IsRefusedWhereItCannotBeMade) {
  const TemporaryFolder folder;
  const auto refused = [](const std::filesystem::path& path) {
    return error_of<ConfigError>([&] { check_output_file("--json", path); });
  };
  EXPECT_EQ(refused("/nope/x"), "--json /nope/x: cannot write in /nope: No such file or directory");
  EXPECT_THAT(refused(folder.path()), HasSubstr("is a folder; allowed: a file"));
  for (const std::filesystem::path& path : {std::filesystem::path(), folder / "x"})
    EXPECT_EQ(refused(path), "no error");
}

/// A checkpoint without an average, such as `ema: 0` leaves.
std::filesystem::path checkpoint_without_ema(const std::filesystem::path& stage) {
  config::ModelConfig config;
  config.name = "resnet18";
  config.classes = 4;
  config.arch["layers"] = std::vector<std::int64_t>{1, 1, 1, 1};
  config.arch["channels"] = std::vector<std::int64_t>{8, 8, 8, 8};
  const auto model = model::create(config, 1);
  checkpoint::Snapshot snapshot;
  snapshot.step = 2;
  snapshot.files["model"] = model::state_of(*model);
  snapshot.state["model"] = model->timm_config();
  std::filesystem::create_directories(stage / "checkpoints");
  checkpoint::Store(stage, /*attempt=*/1, /*keep=*/1).commit(snapshot);
  return stage / "checkpoints/step-000000002";
}

TEST(Which, NamesAnAverageThatIsThereOrIsRefused) {
  const TemporaryFolder folder;
  const std::filesystem::path checkpoint = checkpoint_without_ema(folder.path());
  EXPECT_EQ(error_of<ConfigError>([&] { load_which(checkpoint, "ema"); }),
            "--which ema: this checkpoint keeps none (ema: 0); allowed: model");
  EXPECT_THAT(load_which(checkpoint, "").description, HasSubstr("model.safetensors"));
  EXPECT_THAT(load_which(checkpoint, "model").description, HasSubstr("model.safetensors"));
}

TEST(BenchOptimizer, RefusesMoreParametersThanTheHostHasMemoryFor) {
  BenchOptimizerOptions options;
  options.parameters = 86'000'000'000'000;
  options.device = "cpu";
  EXPECT_THAT(
      error_of<ConfigError>([&] { run_bench_optimizer(options); }),
      HasSubstr("--parameters 86000000000000: adamw needs 1.5 PiB (1720000000000000 bytes) of memory; "
                "this host has "));
}

TEST(PeakResidentBytes, AreNoFewerThanThoseNow) {
  std::vector<std::string> held;
  for (int i = 0; i < 200; ++i) {
    held.emplace_back(std::size_t{300} << 10, 'x');
    const std::int64_t now = resident_bytes();
    ASSERT_GE(peak_resident_bytes(), now) << i;
  }
}

}  // namespace
}  // namespace cosub::tools
