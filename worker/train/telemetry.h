// What a rank shows of itself: its /metrics page, and, on rank 0, progress to the coordinator and lines in
// the log. Called by the training thread; the threads behind it (exposer, reporter) belong to the objects it
// owns.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/metrics.h"
#include "common/protocol.h"
#include "worker/train/phase_clock.h"
#include "worker/train/reporter.h"
#include "worker/train/step.h"

namespace cosub::train {

class Telemetry {
 public:
  /// `address`: what this rank's /metrics binds; labels: pipeline, stage, rank, attempt.
  Telemetry(const std::string& address, Metrics::Labels labels);
  ~Telemetry();

  std::uint16_t metrics_port() const { return metrics_.port(); }
  /// Rank 0 of a job that has a coordinator: from now on it is told.
  void report_through(std::unique_ptr<Reporter> reporter);

  /// Changes what is told; the coordinator hears of a new phase at once.
  void set_progress(const protocol::Progress& progress);
  const protocol::Progress& progress() const { return progress_; }
  void set_phase(const std::string& phase);

  void step_done(const StepOutcome& outcome, double seconds, const PhaseSeconds& phase_seconds);
  void step_skipped();  // not finite, left out
  void checkpoint_done(std::int64_t step);
  /// `data_wait`: share of the interval's time that the training thread waited for data.
  void interval_done(double loss, double top1, double data_wait);
  /// Samples that no rank had met before.
  void bad_samples_found(std::int64_t count);

 private:
  Metrics metrics_;
  prometheus::Counter &steps_, &images_, &bad_samples_, &skipped_steps_;
  prometheus::Gauge &loss_, &top1_, &learning_rate_, &gradient_norm_, &checkpoint_step_, &resident_bytes_,
      &data_wait_;
  prometheus::Histogram& step_seconds_;
  std::vector<prometheus::Counter*> phase_seconds_;
  protocol::Progress progress_;
  std::unique_ptr<Reporter> reporter_;
};

}  // namespace cosub::train
