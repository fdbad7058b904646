#include "worker/tools/bench_step.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "common/atomic_file.h"
#include "common/error.h"
#include "worker/collective/single_communicator.h"
#include "worker/model/tensor_file.h"
#include "worker/tools/arch_option.h"
#include "worker/tools/bench_step_report.h"
#include "worker/tools/measured_steps.h"
#include "worker/tools/memory_use.h"
#include "worker/tools/operator_trace.h"
#include "worker/tools/output_file.h"
#include "worker/tools/step_rig.h"
#include "worker/train/device.h"

namespace cosub::tools {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// [step][own microbatch][branch] -> rows in ascending order, or null where all are kept
void write_kept_rows(const BenchStepOptions& options, const StepRig& rig) {
  nlohmann::json steps = nlohmann::json::array();
  for (std::int64_t step = 0; step < options.warm_up + options.steps; ++step) {
    nlohmann::json microbatches = nlohmann::json::array();
    for (std::int64_t own = 0; own < options.accumulate; ++own) {
      nlohmann::json branches = nlohmann::json::array();
      for (const model::KeptRows::Branch& branch : rig.pass_for(step, own).kept.branches)
        branches.push_back(branch.all ? nlohmann::json(nullptr) : nlohmann::json(branch.rows));
      microbatches.push_back(std::move(branches));
    }
    steps.push_back(std::move(microbatches));
  }
  write_file_atomically(options.kept_rows, steps.dump() + "\n");
}

void check_files(const BenchStepOptions& options) {
  check_output_file("--save-weights", options.save_weights);
  check_output_file("--save-inputs", options.save_inputs);
  check_output_file("--kept-rows", options.kept_rows);
  check_output_file("--json", options.json);
  check_output_file("--trace", options.trace);
}

void write_what_is_wanted(const BenchStepOptions& options, StepRig& rig) {
  if (!options.save_weights.empty()) model::write_tensors(options.save_weights, model::state_of(rig.model()));
  if (!options.save_inputs.empty()) {
    const data::Microbatch& batch = rig.microbatches().front();
    model::write_tensors(options.save_inputs, {{"input", batch.images}, {"target", batch.targets}});
  }
  if (!options.kept_rows.empty()) write_kept_rows(options, rig);
}

ExitCode serve(const BenchStepOptions& options, StepRig& rig, at::Device device) {
  std::string line;
  for (std::int64_t step = 0; step < options.warm_up + options.steps && std::getline(std::cin, line);
       ++step) {
    const Clock::time_point start = Clock::now();
    const train::StepOutcome outcome = rig.run();
    fmt::print("{:.6f} {:.7f} {}\n", seconds_since(start), outcome.loss, device_peak_bytes(device));
    std::fflush(stdout);
  }
  return ExitCode::kDone;
}

constexpr std::int64_t kTracedSteps = 3;
constexpr std::size_t kOperatorsShown = 25;

/// Collective; only rank 0 traces.
void trace_steps(const BenchStepOptions& options, StepRig& rig, at::Device device, bool is_first) {
  const auto steps = [&rig] {
    for (std::int64_t step = 0; step < kTracedSteps; ++step) rig.run();
  };
  if (!is_first) return steps();
  const OperatorTrace trace = trace_operators(options.trace, device, steps);
  fmt::print("\n{}\ntrace of {} steps: {}\n", operator_table(trace.operators, kTracedSteps, kOperatorsShown),
             kTracedSteps, options.trace.string());
  if (const std::string use = device_use_text(trace.device, kTracedSteps); !use.empty())
    fmt::print("{}\n", use);
}

void check(const BenchStepOptions& options, std::int64_t world_size) {
  const config::StageConfig& stage = options.stage;
  if (stage.exchange.compress != config::Compress::kNone && stage.reduction == config::Reduction::kOrdered)
    throw ConfigError("--compress bf16: needs --reduction fast; found ordered");
  if (stage.exchange.error_feedback && stage.exchange.compress == config::Compress::kNone)
    throw ConfigError("--error-feedback: needs --compress bf16; found none");
  if (world_size % stage.sync_batchnorm != 0) {
    throw ConfigError(
        fmt::format("--sync-batchnorm {0}: found {1} rank(s); allowed: a multiple of {0}. "
                    "Start mpirun -n {0} cosub-worker bench step ...",
                    stage.sync_batchnorm, world_size));
  }
  if (options.on_request && world_size > 1)
    throw ConfigError(fmt::format("--on-request: for one rank; found {}", world_size));
  if (options.in_turns == Turns::kNone) return;
  if (options.on_request) throw ConfigError("--in-turns: not with --on-request");
  if (options.in_turns == Turns::kRanks && stage.sync_batchnorm > 1)
    throw ConfigError("--in-turns ranks: not with --sync-batchnorm, which one rank alone cannot do");
  if (world_size == 1)
    throw ConfigError("--in-turns: compares ranks that exchange gradients; found 1 rank (mpirun -n 2 ...)");
}

BenchStepOptions with_overlap(BenchStepOptions options, bool overlap) {
  options.stage.exchange.overlap = overlap;
  return options;
}

/// One of those that take turns.
struct Turn {
  std::string name;
  std::unique_ptr<MeasuredSteps> steps;  // null: this rank only waits
  collective::Communicator* ranks;       // that take part, for tensors in the hosts' memory
};

/// `alone`: a world of this rank.
std::vector<Turn> make_turns(const BenchStepOptions& options, const train::DeviceChoice& choice,
                             collective::Communicator& ranks, collective::Communicator& alone) {
  // Turns must not reach into each other, and who asks for single steps waits for each.
  const bool ahead = !choice.device.is_cpu() && options.in_turns == Turns::kNone && !options.on_request;
  const auto steps = [&](const BenchStepOptions& with, collective::Communicator& over) {
    return std::make_unique<MeasuredSteps>(with, over, choice.device, ahead);
  };
  std::vector<Turn> turns;
  if (options.in_turns == Turns::kOverlap) {
    turns.push_back({"overlap", steps(with_overlap(options, true), *choice.communicator), &ranks});
    turns.push_back({"no_overlap", steps(with_overlap(options, false), *choice.communicator), &ranks});
    return turns;
  }
  turns.push_back({"all_ranks", steps(options, *choice.communicator), &ranks});
  if (options.in_turns == Turns::kRanks) {
    turns.push_back({"one_rank", ranks.rank() == 0 ? steps(options, alone) : nullptr, &alone});
    turns.push_back({"each_alone", steps(options, alone), &ranks});
  }
  return turns;
}

/// Collective.
void take_turns(const BenchStepOptions& options, std::vector<Turn>& turns, collective::Communicator& ranks) {
  for (std::int64_t step = 0; step < options.warm_up + options.steps; ++step) {
    for (std::size_t i = 0; i < turns.size(); ++i) {
      const Turn& turn = turns[step % 2 == 0 ? i : turns.size() - 1 - i];
      if (turns.size() > 1) ranks.meet("the next turn of bench step");  // disturbs a lone rank least
      if (turn.steps) turn.steps->run();
    }
  }
}

/// Of what takes turns the file has all: {NAME: ..., NAME: ...}.
void report(const BenchStepOptions& options, const std::vector<NamedMeasurements>& all) {
  nlohmann::json document;
  for (const NamedMeasurements& one : all) {
    if (all.size() > 1) fmt::print("{}\n\n", one.name);
    fmt::print("{}{}", bench_step_text(one.options, one.found), all.size() > 1 ? "\n" : "");
    document[one.name] = bench_step_json(one.options, one.found);
  }
  if (all.size() > 1) fmt::print("{}", in_turns_text(options.in_turns, all));
  if (options.json.empty()) return;
  write_file_atomically(options.json, (all.size() > 1 ? document : document.front()).dump(1) + "\n");
}

}  // namespace

ExitCode run_bench_step(const BenchStepOptions& options) {
  const auto ranks = collective::connect();
  const bool is_first = ranks->rank() == 0;
  check(options, ranks->world_size());
  if (is_first) check_files(options);
  const train::DeviceChoice choice = train::choose_device(*ranks, options.stage.device);
  collective::SingleCommunicator alone;
  std::vector<Turn> turns = with_arch_option([&] { return make_turns(options, choice, *ranks, alone); });
  StepRig& rig = turns.front().steps->rig();
  if (is_first) write_what_is_wanted(options, rig);
  if (options.on_request) return serve(options, rig, choice.device);

  take_turns(options, turns, *ranks);
  std::vector<NamedMeasurements> all;
  for (const Turn& turn : turns) {
    if (turn.steps) all.push_back({turn.name, turn.steps->options(), turn.steps->finish(*turn.ranks)});
  }
  if (is_first) report(options, all);
  if (!options.trace.empty()) trace_steps(options, rig, choice.device, is_first);
  ranks->barrier("the end of bench step");
  return ExitCode::kDone;
}

}  // namespace cosub::tools
