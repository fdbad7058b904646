#include "worker/train/telemetry.h"

#include <unistd.h>

#include <fstream>

namespace cosub::train {
namespace {

double resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  double size_pages = 0, resident_pages = 0;
  statm >> size_pages >> resident_pages;
  return resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

std::vector<double> step_bounds() {
  return {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
}

}  // namespace

Telemetry::Telemetry(const std::string& address, Metrics::Labels labels)
    : metrics_(address, 0, std::move(labels)),
      steps_(metrics_.counter("cosub_steps_total", "Optimizer steps done by this attempt.")),
      images_(
          metrics_.counter("cosub_images_total", "Images of the global batch trained on by this attempt.")),
      bad_samples_(metrics_.counter("cosub_bad_samples_total",
                                    "Different samples found that cannot be decoded, all ranks.")),
      skipped_steps_(metrics_.counter("cosub_skipped_steps_total",
                                      "Steps whose loss or gradients were not finite, left out.")),
      loss_(metrics_.gauge("cosub_loss", "Training loss, mean of the last log interval.")),
      top1_(metrics_.gauge("cosub_top1", "Training top-1 as a share, mean of the last log interval.")),
      learning_rate_(metrics_.gauge("cosub_learning_rate", "Learning rate of the last step.")),
      gradient_norm_(
          metrics_.gauge("cosub_grad_norm", "Global gradient norm of the last step, before clipping.")),
      checkpoint_step_(
          metrics_.gauge("cosub_checkpoint_step", "Step of the newest checkpoint, -1 for none.")),
      resident_bytes_(metrics_.gauge("process_resident_memory_bytes", "Resident memory of this rank.")),
      data_wait_(metrics_.gauge("cosub_data_wait_share",
                                "Share of the last log interval that training waited for data.")),
      step_seconds_(metrics_.histogram("cosub_step_seconds", "Seconds per optimizer step.", step_bounds())) {
  for (std::string_view phase : kPhaseNames) {
    phase_seconds_.push_back(&metrics_.counter(
        "cosub_phase_seconds_total", "Seconds spent by phase of the step.", {{"phase", std::string(phase)}}));
  }
  checkpoint_step_.Set(-1);
  resident_bytes_.Set(resident_bytes());
}

Telemetry::~Telemetry() = default;

void Telemetry::report_through(std::unique_ptr<Reporter> reporter) {
  reporter_ = std::move(reporter);
  reporter_->update(progress_);
}

void Telemetry::set_progress(const protocol::Progress& progress) {
  progress_ = progress;
  if (reporter_) reporter_->update(progress_);
}

void Telemetry::set_phase(const std::string& phase) {
  protocol::Progress progress = progress_;
  progress.phase = phase;
  set_progress(progress);
}

void Telemetry::step_done(const StepOutcome& outcome, double seconds, const PhaseSeconds& phase_seconds) {
  steps_.Increment();
  images_.Increment(static_cast<double>(outcome.images));
  learning_rate_.Set(outcome.learning_rate);
  gradient_norm_.Set(outcome.gradient_norm);
  step_seconds_.Observe(seconds);
  for (std::size_t i = 0; i < phase_seconds.size(); ++i) phase_seconds_[i]->Increment(phase_seconds[i]);
}

void Telemetry::step_skipped() {
  skipped_steps_.Increment();
}

void Telemetry::checkpoint_done(std::int64_t step) {
  checkpoint_step_.Set(static_cast<double>(step));
  protocol::Progress progress = progress_;
  progress.checkpoint_step = step;
  set_progress(progress);
}

void Telemetry::bad_samples_found(std::int64_t count) {
  bad_samples_.Increment(static_cast<double>(count));
}

void Telemetry::interval_done(double loss, double top1, double data_wait) {
  loss_.Set(loss);
  data_wait_.Set(data_wait);
  top1_.Set(top1);
  resident_bytes_.Set(resident_bytes());
}

}  // namespace cosub::train
