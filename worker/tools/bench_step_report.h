// What `cosub bench step` found, and how it is shown.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/tools/bench_step.h"
#include "worker/tools/gemm_peak.h"
#include "worker/train/phase_clock.h"

namespace cosub::tools {

struct StepMeasurements {
  std::int64_t world_size = 1, images_per_step = 0;
  bool exchanges = false;                   // gradients; or each rank trains for itself
  bool overlaps = false;                    // during the backward pass
  std::int64_t parameter_bytes = 0;         // and as many of gradients, on every rank
  std::string device;                       // cpu, cuda:0
  std::vector<double> seconds;              // by step, of the slowest rank
  std::vector<train::PhaseSeconds> phases;  // by step and train::Phase, of rank 0
  std::vector<double> exchange_seconds;     // by step, of rank 0: hidden behind the backward pass or not
  std::vector<double> losses;               // by step
  double rank_flops_per_step = 0;           // 3 x forward, of the rows that ran, of one rank
  Peak peak;                                // of one rank's device
  std::int64_t resident_after_first = 0, resident_after_last = 0, resident_peak = 0;
  std::int64_t device_peak = 0;      // bytes of tensors on the GPU at most, with weights; 0: no GPU
  std::int64_t step_peak_bytes = 0;  // of tensors, beyond what is there between steps

  /// Whether `phases` and `exchange_seconds` are what they say: a GPU's work is only queued in them.
  bool knows_phases() const { return device == "cpu"; }
};

std::string bench_step_text(const BenchStepOptions& options, const StepMeasurements& found);
nlohmann::json bench_step_json(const BenchStepOptions& options, const StepMeasurements& found);

struct NamedMeasurements {
  std::string name;
  BenchStepOptions options;
  StepMeasurements found;
};

/// How those that took turns compare, step by step; in the order of Turns' comments.
std::string in_turns_text(Turns turns, const std::vector<NamedMeasurements>& all);

}  // namespace cosub::tools
