#include "worker/tools/measured_steps.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "worker/model/cost.h"
#include "worker/tools/memory_use.h"

namespace cosub::tools {
namespace {

/// A step lasts as long as the slowest rank's.
std::vector<double> slowest(const std::vector<double>& mine, collective::Communicator& ranks) {
  std::vector<at::Tensor> all;
  for (std::int64_t rank = 0; rank < ranks.world_size(); ++rank)
    all.push_back(at::zeros({static_cast<std::int64_t>(mine.size())}, at::kDouble));
  ranks.all_gather(at::tensor(mine, at::kDouble), all, "the times of the steps");
  const at::Tensor most = std::get<0>(at::stack(all).max(0)).contiguous();
  const double* values = most.const_data_ptr<double>();
  return {values, values + most.numel()};
}

}  // namespace

MeasuredSteps::MeasuredSteps(BenchStepOptions options, collective::Communicator& communicator,
                             at::Device device, bool ahead)
    : options_(std::move(options)),
      device_(device),
      ahead_(ahead),
      rig_(options_.stage, options_.accumulate, options_.seed, options_.weights, communicator, device,
           ahead) {
  found_.world_size = communicator.world_size();
  found_.images_per_step = rig_.images_per_step();
  found_.device = device.str();
  found_.parameter_bytes = rig_.parameter_bytes();
}

void MeasuredSteps::run_one() {
  const std::optional<train::StepOutcome> outcome = ahead_ ? rig_.run_ahead() : rig_.run();
  if (outcome) found_.losses.push_back(outcome->loss);
}

void MeasuredSteps::run() {
  const bool is_first = num_runs_++ == 0;
  rig_.take_phases();
  rig_.take_exchange_seconds();
  const auto start = std::chrono::steady_clock::now();
  if (is_first)
    found_.step_peak_bytes = peak_tensor_bytes(device_.type(), [this] { run_one(); });
  else
    run_one();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (is_first) found_.resident_after_first = resident_bytes();
  if (num_runs_ <= options_.warm_up) return;
  found_.seconds.push_back(seconds.count());
  found_.phases.push_back(rig_.take_phases());
  found_.exchange_seconds.push_back(rig_.take_exchange_seconds());
}

/// Counted on a CPU, where the operators' names are known; kept counts are the same in every step.
double MeasuredSteps::flops_per_step() const {
  const auto backbone = model::create(options_.stage.model, std::nullopt);
  const std::int64_t forward = model::multiply_adds_of_pass(*backbone, rig_.pass_for(0, 0));
  return 3.0 * 2.0 * static_cast<double>(forward * options_.accumulate);
}

StepMeasurements MeasuredSteps::finish(collective::Communicator& hosts) {
  if (ahead_) found_.losses.push_back(rig_.last().loss);
  found_.resident_after_last = resident_bytes();
  found_.resident_peak = std::max(peak_resident_bytes(), found_.resident_after_first);
  found_.device_peak = device_peak_bytes(device_);
  found_.seconds = slowest(found_.seconds, hosts);
  found_.exchanges = found_.world_size > 1;
  found_.overlaps = rig_.overlaps();
  found_.images_per_step *= hosts.world_size() / found_.world_size;
  found_.world_size = hosts.world_size();
  if (hosts.rank() != 0) return std::move(found_);
  found_.rank_flops_per_step = flops_per_step();
  found_.peak = peak_of(device_, options_.stage.precision);
  return std::move(found_);
}

}  // namespace cosub::tools
