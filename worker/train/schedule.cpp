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
      warmup_steps_(std::llround(options.warmup_epochs * static_cast<double>(steps_per_epoch))),
      decay_steps_(std::max<std::int64_t>(
          1, std::llround(options.decay_epochs * static_cast<double>(steps_per_epoch)))) {}

double Schedule::learning_rate(std::int64_t step) const {
  double t = static_cast<double>(step);
  if (step < warmup_steps_)
    return options_.warmup_lr + t * (lr_ - options_.warmup_lr) / static_cast<double>(warmup_steps_);
  if (options_.name == "constant") return lr_;
  if (options_.name == "step")
    return lr_ * std::pow(options_.decay_rate, static_cast<double>(step / decay_steps_));
  if (step >= total_steps_) return options_.min_lr;
  double progress = t / static_cast<double>(total_steps_);
  if (options_.name == "linear") return options_.min_lr + (lr_ - options_.min_lr) * (1 - progress);
  return options_.min_lr + 0.5 * (lr_ - options_.min_lr) * (1 + std::cos(std::numbers::pi * progress));
}

double lambda_at(const config::CosubConfig& options, std::int64_t steps_per_epoch, std::int64_t step) {
  const double warmup = std::round(options.lambda_warmup_epochs * static_cast<double>(steps_per_epoch));
  const double t = static_cast<double>(step);
  if (t >= warmup) return options.lambda;
  return options.lambda_start + (options.lambda - options.lambda_start) * t / warmup;
}

}  // namespace cosub::train
