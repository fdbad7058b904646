// gradient_agreement: trains a small pipeline with `reduction: fast`, keeps checkpoints along it, and
// computes from each the next step's gradients on 1, 2 and 3 ranks. Prints, and fails on, the largest
// relative difference of any tensor: norm of the difference over the norm, against one rank.
//   build/release/bench/gradient_agreement --checkpoints 20
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "common/safetensors.h"
#include "common/text.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/whole_system.h"

namespace {

namespace fs = std::filesystem;
using namespace cosub;

struct Worst {
  double difference = 0;
  std::string tensor;
};

/// The largest ||a - b|| / ||b|| over all tensors of two files of float32 gradients.
Worst compare(const fs::path& a_path, const fs::path& b_path) {
  const safetensors::File a(a_path), b(b_path);
  Worst worst;
  for (const auto& [name, info] : b.header().tensors) {
    const auto a_bytes = a.bytes(name), b_bytes = b.bytes(name);
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i + sizeof(float) <= b_bytes.size(); i += sizeof(float)) {
      float x = 0, y = 0;
      std::memcpy(&x, a_bytes.data() + i, sizeof(float));
      std::memcpy(&y, b_bytes.data() + i, sizeof(float));
      difference += std::pow(static_cast<double>(x) - y, 2);
      norm += std::pow(static_cast<double>(y), 2);
    }
    const double relative = norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
    if (relative >= worst.difference) worst = {relative, name};
  }
  return worst;
}

void gradients(const fs::path& stage, const fs::path& checkpoint, int ranks, const fs::path& output) {
  testing::ProgramOptions options;
  options.environment = {{"OMP_NUM_THREADS", "1"}, {"OMP_WAIT_POLICY", "passive"}};
  if (geteuid() == 0) {
    options.environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    options.environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  const auto result = testing::run_program(
      {"mpirun", "--oversubscribe", "--bind-to", "none", "-n", std::to_string(ranks),
       testing::program("cosub-worker").string(), "gradients", "--stage", (stage / "stage.yaml").string(),
       "--checkpoint", checkpoint.string(), "--output", output.string(), "--reduction", "fast"},
      options);
  if (result.exit_code != 0) throw std::runtime_error(result.output);
}

int run(int num_checkpoints, double tolerance) {
  const testing::TemporaryFolder folder;
  testing::ToyPipeline pipeline;
  pipeline.reduction = "fast";
  pipeline.checkpoint_every_steps = 4;
  pipeline.keep = 1000;
  pipeline.pretrain_epochs = std::ceil(4.0 * num_checkpoints / 16) + 1;
  const auto trained = testing::run_program({testing::program("cosub").string(), "run",
                                             testing::write_toy_pipeline(folder.path(), pipeline).string()});
  if (trained.exit_code != 0) throw std::runtime_error(trained.output);

  const fs::path stage = folder.path() / "runs" / "toy" / "pretrain";
  std::vector<fs::path> checkpoints;
  for (const auto& entry : fs::directory_iterator(stage / "checkpoints")) {
    if (entry.path().filename().string().starts_with("step-")) checkpoints.push_back(entry.path());
  }
  std::sort(checkpoints.begin(), checkpoints.end());
  if (static_cast<int>(checkpoints.size()) <= num_checkpoints) {  // the last one has no next step
    throw std::runtime_error(fmt::format("only {} checkpoints", checkpoints.size()));
  }
  std::vector<std::vector<std::string>> rows = {{"checkpoint", "2 ranks", "3 ranks", "worst tensor"}};
  double largest = 0;
  for (int i = 0; i < num_checkpoints; ++i) {
    const auto& checkpoint = checkpoints[static_cast<std::size_t>(i)];
    for (int ranks = 1; ranks <= 3; ++ranks) {
      gradients(stage, checkpoint, ranks, folder.path() / fmt::format("{}-{}", i, ranks));
    }
    const Worst two = compare(folder.path() / fmt::format("{}-2", i), folder.path() / fmt::format("{}-1", i));
    const Worst three =
        compare(folder.path() / fmt::format("{}-3", i), folder.path() / fmt::format("{}-1", i));
    largest = std::max({largest, two.difference, three.difference});
    rows.push_back({checkpoint.filename().string(), fmt::format("{:.1e}", two.difference),
                    fmt::format("{:.1e}", three.difference), three.tensor});
  }
  fmt::print("{}largest relative difference: {:.2e} (allowed {:.0e})\n", table(rows), largest, tolerance);
  return largest <= tolerance ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  int checkpoints = 20;
  double tolerance = 1e-5;
  CLI::App app{"Compares the gradients of one step on 1, 2 and 3 ranks from checkpoints along a run"};
  app.add_option("--checkpoints", checkpoints, "How many")->capture_default_str();
  app.add_option("--tolerance", tolerance, "Relative, per tensor")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    return run(checkpoints, tolerance);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
