// The learning rate of each step and how many steps a stage has: pure functions.
#pragma once

#include <cstdint>

#include "common/config/pipeline.h"

namespace cosub::train {

/// As timm's CosineLRScheduler computes it per update (t_in_epochs=False, warmup_prefix=False). With T steps
/// in all, W = warmup_epochs in steps, and t counted from 0:
///   t < W:   warmup_lr + t * (lr - warmup_lr) / W
///   else:    min_lr + (lr - min_lr) / 2 * (1 + cos(pi * t / T))
/// The others have the same warm-up, and then
///   linear:   min_lr + (lr - min_lr) * (1 - t / T)         timm's PolyLRScheduler with power 1
///   step:     lr * decay_rate ^ floor(t / decay_epochs in steps)      timm's StepLRScheduler
///   constant: lr
class Schedule {
 public:
  Schedule(const config::ScheduleConfig& options, double lr, std::int64_t steps_per_epoch);
  double learning_rate(std::int64_t step) const;
  std::int64_t total_steps() const { return total_steps_; }
  std::int64_t warmup_steps() const { return warmup_steps_; }

 private:
  config::ScheduleConfig options_;
  double lr_;
  std::int64_t total_steps_, warmup_steps_, decay_steps_;
};

/// Weight of the other submodel's prediction at `step`: lambda_start + (lambda - lambda_start) * step / W
/// while step < W = lambda_warmup_epochs in steps, then lambda.
double lambda_at(const config::CosubConfig& options, std::int64_t steps_per_epoch, std::int64_t step);

}  // namespace cosub::train
