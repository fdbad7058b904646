// Exponential moving average of parameters and floating buffers (Polyak averaging as timm's ModelEmaV2 does
// it):
//   average += (1 - decay_t) * (values - average),  decay_t = min(decay, (1 + t) / (10 + t)) with warm-up,
//   else decay
// where t counts updates from 0. One operation over the flat vector.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "worker/kernels/update_arguments.h"
#include "worker/train/update_scalars.h"

namespace cosub::train {

class Ema {
 public:
  /// Starts at `values` (copied).
  Ema(const at::Tensor& values, double decay, bool warmup);
  void update(const at::Tensor& values, std::int64_t step);
  /// The same of elements [begin, end) alone, by the numbers of the update just made. values: from element 0.
  void follow(const at::Tensor& values, std::int64_t begin, std::int64_t end, const UpdateScalars& scalars);
  kernels::EmaRule rule();  // for a kernel that does it in its own pass
  double decay_at(std::int64_t step) const;
  at::Tensor& average() { return average_; }

 private:
  at::Tensor average_;
  double decay_;
  bool warmup_;
};

/// While it lives, `values` hold `other`; afterwards what they held before, bit for bit.
class SwappedValues {
 public:
  SwappedValues(at::Tensor& values, const at::Tensor& other);
  ~SwappedValues();
  SwappedValues(const SwappedValues&) = delete;
  SwappedValues& operator=(const SwappedValues&) = delete;

 private:
  at::Tensor& values_;
  at::Tensor before_;
};

}  // namespace cosub::train
