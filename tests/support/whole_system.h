// The installed programs as tests and benchmarks drive them: run one and read what it said, write a small
// pipeline over a toy set, find and kill the processes of a job. Programs are taken from ../bin beside the
// test binary.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/process.h"

namespace cosub::testing {

std::filesystem::path program(const std::string& name);  // "cosub", "cosub-coordinator", ...

struct ProgramResult {
  int exit_code = -1;  // 128 + signal for a death; -1 when it ran past the limit and was killed
  std::string output;  // stdout and stderr together
};

struct ProgramOptions {
  std::map<std::string, std::string> environment;
  std::vector<std::string> unset;
  std::filesystem::path working_directory;
  std::chrono::seconds limit{300};
};
ProgramResult run_program(const std::vector<std::string>& argv, const ProgramOptions& options = {});

/// A program in the background; killed by the destructor when it still runs.
class Background {
 public:
  Background(const std::vector<std::string>& argv, const std::filesystem::path& output,
             const ProgramOptions& options = {});
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;
  const ProcessId& process() const { return process_; }
  void signal(int number) const { send_signal(process_, number); }
  std::optional<int> wait(std::chrono::milliseconds limit);
  std::string output() const;

 private:
  ProcessId process_;
  std::filesystem::path output_;
  std::optional<int> exit_code_;
};

/// pretrain (cosub) -> finetune at a higher resolution from its EMA -> evaluate (full and three submodels) ->
/// export, over a toy set in the same folder; a few seconds on one core.
struct ToyPipeline {
  std::string name = "toy";
  std::int64_t ranks = 2;
  double pretrain_epochs = 2, finetune_epochs = 1;
  std::int64_t train_samples = 1024, val_samples = 250;
  std::int64_t global = 64, micro = 16;
  std::int64_t checkpoint_every_steps = 10, keep = 2;
  std::string reduction = "ordered";
  std::string model = "resnet18";
  std::string arch = "{layers: [1, 1, 1, 1], channels: [8, 16, 16, 16], stem_type: deep, stem_width: 4}";
  std::int64_t pretrain_image_size = 14, finetune_image_size = 20;
};
/// Writes FOLDER/NAME.yaml (and the toy set once); runs go to FOLDER/runs. Returns the pipeline file.
std::filesystem::path write_toy_pipeline(const std::filesystem::path& folder, const ToyPipeline& options);

/// SHA-256 of the exported model.safetensors of a run; "" when there is none.
std::string exported_sha256(const std::filesystem::path& run_folder);

/// Live processes by program name whose environment or command line names this text (a run's folder, say).
std::vector<ProcessId> processes_named(const std::string& program_name, const std::string& mentioning);

}  // namespace cosub::testing
