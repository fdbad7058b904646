#include "worker/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace cosub::train {

Schedule::Schedule(const config::ScheduleConfig& options, double lr, std::int64_t steps_per_epoch)
    : options_(options),
      lr_(lr),
      total_steps_(
          std::max<std::int64_t>(1, std::llround(options.epochs * static_cast<double>(steps_per_epoch)))),
      warmup_steps_(std::llround(options.warmup_epochs * static_cast<double>(steps_per_epoch))) {}

double Schedule::learning_rate(std::int64_t step) const {
  double t = static_cast<double>(step);
  if (step < warmup_steps_)
    return options_.warmup_lr + t * (lr_ - options_.warmup_lr) / static_cast<double>(warmup_steps_);
  if (options_.name == "constant") return lr_;
  if (step >= total_steps_) return options_.min_lr;
  double progress = t / static_cast<double>(total_steps_);
  return options_.min_lr + 0.5 * (lr_ - options_.min_lr) * (1 + std::cos(std::numbers::pi * progress));
}

}  // namespace cosub::train
