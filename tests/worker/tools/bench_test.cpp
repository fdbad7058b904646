// What the bench commands accept, and what they write where something was not measured.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "worker/tools/bench_commands.h"
#include "worker/tools/bench_step_report.h"

namespace cosub::tools {
namespace {

StepMeasurements measured_on(const std::string& device) {
  StepMeasurements found;
  found.device = device;
  found.images_per_step = 8;
  found.seconds = {0.5};
  found.phases = {{}};
  found.exchange_seconds = {0};
  return found;
}

TEST(BenchStepJson, IsNullWhereNothingWasMeasured) {
  BenchStepOptions options;
  options.stage.batch.micro = 8;
  const nlohmann::json on_gpu = bench_step_json(options, measured_on("cuda:0"));
  for (const char* key : {"phase_seconds", "exchange_seconds", "peak_flops"})
    EXPECT_TRUE(on_gpu.at(key).is_null()) << key;
  EXPECT_NE(bench_step_text(options, measured_on("cuda:0")).find("--trace shows them"), std::string::npos);
  const nlohmann::json on_cpu = bench_step_json(options, measured_on("cpu"));
  EXPECT_EQ(on_cpu.at("phase_seconds").at("forward").at("median"), 0.0);
  EXPECT_EQ(on_cpu.at("exchange_seconds").at("median"), 0.0);
  EXPECT_TRUE(on_cpu.at("device_peak_bytes").is_null());
}

TEST(KnownGpuPeak, IsThatOfTheWholeName) {
  const auto peak = [](std::string_view name) {
    return known_gpu_peak(name, config::Precision::kBf16).flops / 1e12;
  };
  EXPECT_EQ(peak("NVIDIA H200"), 989.4);
  EXPECT_EQ(peak("NVIDIA GH200 480GB"), 989.4);
  EXPECT_EQ(peak("NVIDIA H100 PCIe"), 756.5);
  EXPECT_EQ(peak("NVIDIA H100 80GB HBM3"), 989.4);
  EXPECT_EQ(peak("NVIDIA A100-SXM4-80GB"), 312);
  EXPECT_EQ(peak("NVIDIA GB200"), 2500);
  EXPECT_EQ(peak("NVIDIA L40"), 181);
  EXPECT_EQ(peak("NVIDIA L40S"), 362);
  EXPECT_EQ(peak("NVIDIA L4"), 121);
  for (const char* other : {"NVIDIA RTX A1000", "NVIDIA A10G", "NVIDIA GeForce RTX 4090 Laptop GPU", ""})
    EXPECT_EQ(peak(other), 0) << other;
}

TEST(BenchStepInTurns, ComparesStepByStep) {
  const auto named = [](std::int64_t world_size, std::vector<double> seconds) {
    StepMeasurements found = measured_on("cpu");
    found.world_size = world_size;
    found.images_per_step = 8 * world_size;
    found.seconds = std::move(seconds);
    return NamedMeasurements{"", {}, found};
  };
  const std::string ranks =
      in_turns_text(Turns::kRanks, {named(2, {1, 2, 1}), named(1, {1, 1.9, 0.5}), named(2, {1, 2, 2})});
  EXPECT_THAT(ranks, ::testing::ContainsRegex("2 ranks / one +1\\.000 +1\\.900 +2\\.000"));
  EXPECT_THAT(ranks, ::testing::ContainsRegex("each for itself / one +0\\.500 +1\\.900 +2\\.000"));
  EXPECT_THAT(ranks, ::testing::ContainsRegex("with / without the exchange +1\\.000 +1\\.000 +2\\.000"));
  EXPECT_EQ(in_turns_text(Turns::kOverlap, {named(2, {1, 2, 1}), named(2, {1.5, 2.25, 0.5})}),
            "With overlap a step is 250.0 ms shorter (median of the pairs; -500.0 to 500.0)\n");
}

/// "" when the words are accepted.
std::string refusal(std::vector<std::string> words) {
  CLI::App app;
  std::function<ExitCode()> chosen;
  add_bench_commands(app, chosen);
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
  return chosen ? "" : "nothing was chosen";
}

TEST(BenchCommands, TakeWhatTheConfigurationTakes) {
  EXPECT_EQ(refusal({"bench", "step", "--optimizer", "lamb", "--loss", "ce", "--ema", "0.9999"}), "");
  EXPECT_EQ(refusal({"bench", "step", "--optimizer", "sgd", "--loss", "bce", "--ema", "0"}), "");
  for (const char* command : {"step", "optimizer"})
    EXPECT_NE(refusal({"bench", command, "--ema", "1.0"}).find("found 1.0; allowed: a number >= 0 and < 1"),
              std::string::npos)
        << command;
  EXPECT_NE(refusal({"bench", "step", "--optimizer", "adam"}), "");
  EXPECT_NE(refusal({"bench", "step", "--loss", "mse"}), "");
  EXPECT_EQ(refusal({"bench", "step", "--in-turns", "ranks"}), "");
  EXPECT_EQ(refusal({"bench", "step", "--compress", "bf16", "--reduction", "fast", "--error-feedback"}), "");
  EXPECT_EQ(refusal({"bench", "step", "--model", "resnet50", "--sync-batchnorm", "2"}), "");
  EXPECT_NE(refusal({"bench", "step", "--sync-batchnorm", "0"}), "");
  EXPECT_NE(refusal({"bench", "step", "--in-turns", "precision"}), "");
}

}  // namespace
}  // namespace cosub::tools
