#include "worker/train/ema.h"

#include <algorithm>

#include "worker/model/kernel_calls.h"
#include "worker/train/update_kernels.h"

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

void Ema::follow(const at::Tensor& values, std::int64_t begin, std::int64_t end,
                 const UpdateScalars& scalars) {
  if (begin == end) return;
  if (const kernels::Kernels* found = update_kernels(values)) {
    kernels::EmaUpdate a;
    a.begin = begin;
    a.end = end;
    a.scalars = scalars.tensor().const_data_ptr<double>();
    a.values = values.const_data_ptr<float>();
    a.ema = rule();
    return found->ema(a, model::StreamOf(values));
  }
  const UpdateValues now = scalars.read();
  if (!now.applies) return;
  const at::NoGradGuard no_grad;
  average_.narrow(0, begin, end - begin)
      .lerp_(values.narrow(0, begin, end - begin), 1 - decay_at(now.updates));
}

kernels::EmaRule Ema::rule() {
  return {average_.mutable_data_ptr<float>(), decay_, warmup_};
}

SwappedValues::SwappedValues(at::Tensor& values, const at::Tensor& other)
    : values_(values), before_(values.clone()) {
  values_.copy_(other);
}

SwappedValues::~SwappedValues() {
  values_.copy_(before_);
}

}  // namespace cosub::train
