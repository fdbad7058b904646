#include "worker/tools/bench_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>

#include "common/atomic_file.h"
#include "common/error.h"
#include "worker/model/cost.h"
#include "worker/model/tensor_file.h"
#include "worker/tools/bench_step_report.h"
#include "worker/tools/memory_use.h"
#include "worker/tools/operator_trace.h"
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

/// The step's seconds are those of the slowest rank.
std::vector<double> slowest(collective::Communicator& communicator, const std::vector<double>& mine) {
  std::vector<at::Tensor> all;
  for (std::int64_t rank = 0; rank < communicator.world_size(); ++rank)
    all.push_back(at::zeros({static_cast<std::int64_t>(mine.size())}, at::kDouble));
  communicator.all_gather(at::tensor(mine, at::kDouble), all, "the times of the steps");
  const at::Tensor most = std::get<0>(at::stack(all).max(0)).contiguous();
  const double* values = most.const_data_ptr<double>();
  return {values, values + most.numel()};
}

void measure_steps(const BenchStepOptions& options, StepRig& rig, at::Device device,
                   StepMeasurements& found) {
  for (std::int64_t step = 0; step < options.warm_up + options.steps; ++step) {
    rig.take_phases();
    rig.take_exchange_seconds();
    const Clock::time_point start = Clock::now();
    train::StepOutcome outcome;
    if (step == 0)
      found.step_peak_bytes = peak_tensor_bytes(device.type(), [&] { outcome = rig.run(); });
    else
      outcome = rig.run();
    const double seconds = seconds_since(start);
    found.losses.push_back(outcome.loss);
    if (step == 0) found.resident_after_first = resident_bytes();
    if (step < options.warm_up) continue;
    found.seconds.push_back(seconds);
    found.phases.push_back(rig.take_phases());
    found.exchange_seconds.push_back(rig.take_exchange_seconds());
  }
  found.resident_after_last = resident_bytes();
  found.resident_peak = peak_resident_bytes();
  found.device_peak = device_peak_bytes(device);
}

constexpr std::int64_t kTracedSteps = 3;
constexpr std::size_t kOperatorsShown = 25;

/// Collective; only rank 0 traces.
void trace_steps(const BenchStepOptions& options, StepRig& rig, at::Device device, bool is_first) {
  const auto steps = [&rig] {
    for (std::int64_t step = 0; step < kTracedSteps; ++step) rig.run();
  };
  if (!is_first) return steps();
  const auto operators = trace_operators(options.trace, device, steps);
  fmt::print("\n{}\ntrace of {} steps: {}\n", operator_table(operators, kTracedSteps, kOperatorsShown),
             kTracedSteps, options.trace.string());
}

/// Counted on a CPU, where the operators' names are known; kept counts are the same in every step.
double flops_per_step(const BenchStepOptions& options, const StepRig& rig) {
  const auto backbone = model::create(options.stage.model, std::nullopt);
  const std::int64_t forward = model::multiply_adds_of_pass(*backbone, rig.pass_for(0, 0));
  return 3.0 * 2.0 * static_cast<double>(forward * options.accumulate);
}

void check_exchange(const config::StageConfig& stage) {
  if (stage.exchange.compress != config::Compress::kNone && stage.reduction == config::Reduction::kOrdered)
    throw ConfigError("--compress bf16: needs --reduction fast; found ordered");
}

}  // namespace

ExitCode run_bench_step(const BenchStepOptions& options) {
  check_exchange(options.stage);
  const auto ranks = collective::connect();
  if (options.on_request && ranks->world_size() > 1)
    throw ConfigError(fmt::format("--on-request: for one rank; found {}", ranks->world_size()));
  const train::DeviceChoice choice = train::choose_device(*ranks, options.stage.device);
  StepRig rig(options.stage, options.accumulate, options.seed, options.weights, *choice.communicator,
              choice.device);
  if (ranks->rank() == 0) write_what_is_wanted(options, rig);
  if (options.on_request) return serve(options, rig, choice.device);

  StepMeasurements found;
  found.world_size = ranks->world_size();
  found.images_per_step = rig.images_per_step();
  found.device = choice.device.str();
  found.parameter_bytes = rig.parameter_bytes();
  measure_steps(options, rig, choice.device, found);
  found.seconds = slowest(*ranks, found.seconds);
  if (ranks->rank() == 0) {
    found.rank_flops_per_step = flops_per_step(options, rig);
    found.peak = peak_of(choice.device, options.stage.precision);
    fmt::print("{}", bench_step_text(options, found));
    if (!options.json.empty())
      write_file_atomically(options.json, bench_step_json(options, found).dump(1) + "\n");
  }
  if (!options.trace.empty()) trace_steps(options, rig, choice.device, ranks->rank() == 0);
  ranks->barrier("the end of bench step");
  return ExitCode::kDone;
}

}  // namespace cosub::tools
