// Training steps of one StepRig, measured one at a time, so that two of them can take turns: what a machine
// does beside it then hits both alike.
#pragma once

#include <ATen/ATen.h>

#include "worker/collective/communicator.h"
#include "worker/tools/bench_step.h"
#include "worker/tools/bench_step_report.h"
#include "worker/tools/step_rig.h"

namespace cosub::tools {

class MeasuredSteps {
 public:
  /// Collective over `communicator`, which must outlive it, as is run. `ahead`: each step is queued before
  /// the one before is waited for, as a stage on a GPU does; otherwise each is waited for. ConfigError,
  /// DataError.
  MeasuredSteps(BenchStepOptions options, collective::Communicator& communicator, at::Device device,
                bool ahead);

  /// The next step; the first options.warm_up are not part of the times.
  void run();
  /// After all steps. `hosts`: the ranks that ran them at the same time (those of the communicator, or of
  /// several alike), for tensors in the hosts' memory; collective over it.
  StepMeasurements finish(collective::Communicator& hosts);

  const BenchStepOptions& options() const { return options_; }
  StepRig& rig() { return rig_; }

 private:
  void run_one();
  double flops_per_step() const;

  BenchStepOptions options_;
  at::Device device_;
  bool ahead_;
  StepRig rig_;
  std::int64_t num_runs_ = 0;
  StepMeasurements found_;
};

}  // namespace cosub::tools
