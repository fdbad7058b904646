#include "worker/train/ema.h"

#include <algorithm>

namespace cosub::train {

Ema::Ema(const at::Tensor& values, double decay, bool warmup)
    : average_(values.detach().clone()), decay_(decay), warmup_(warmup) {}

double Ema::decay_at(std::int64_t step) const {
  double t = static_cast<double>(step);
  return warmup_ ? std::min(decay_, (1 + t) / (10 + t)) : decay_;
}

void Ema::update(const at::Tensor& values, std::int64_t step) {
  at::NoGradGuard no_grad;
  average_.lerp_(values, 1 - decay_at(step));
}

void Ema::update(const at::Tensor& values, const UpdateScalars& scalars) {
  const UpdateValues now = scalars.read();
  if (now.applies) update(values, now.updates);
}

SwappedValues::SwappedValues(at::Tensor& values, const at::Tensor& other)
    : values_(values), before_(values.clone()) {
  values_.copy_(other);
}

SwappedValues::~SwappedValues() {
  values_.copy_(before_);
}

}  // namespace cosub::train
