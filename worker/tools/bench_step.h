// `cosub bench step`: how fast training steps are, where their time and memory go, and how that compares with
// what the device could do. Also the half of bench/step/run that measures ours beside a peer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/config/pipeline.h"
#include "common/exit_code.h"

namespace cosub::tools {

/// What takes turns, in the same processes: A B B A A B ..., A B C C B A ...
enum class Turns {
  kNone,
  kOverlap,  // the exchange of gradients during the backward pass; after it
  kRanks     // all ranks; rank 0 alone while the others wait; all ranks, each for itself, without an exchange
};

struct BenchStepOptions {
  config::StageConfig stage;      // as StepRig takes it
  std::vector<std::string> arch;  // --arch, which stage.model has
  std::int64_t accumulate = 1;
  std::int64_t steps = 10, warm_up = 2;
  std::uint64_t seed = 0;
  std::filesystem::path weights;       // to start from; empty: drawn from the seed
  std::filesystem::path save_weights;  // where the weights at the start are written; must not exist
  std::filesystem::path save_inputs;   // where this rank's first microbatch is written; must not exist
  std::filesystem::path kept_rows;     // where the rows that each branch keeps are written
  std::filesystem::path json;
  std::filesystem::path trace;  // of rank 0's steps after the measured ones
  bool on_request = false;
  Turns in_turns = Turns::kNone;
};

/// Collective. Rank 0 prints a table (one for each of those that take turns, and how they compare; the
/// process's memory is that of all of them, trace and kept rows are the first one's), or with on_request,
/// after each line that it reads, the next step's seconds and loss, and the most bytes of tensors so far on
/// the GPU (0: none). ConfigError, DataError, IoError.
ExitCode run_bench_step(const BenchStepOptions& options);

}  // namespace cosub::tools
