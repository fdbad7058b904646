#include "worker/train/update_kernels.h"

#include "worker/model/kernel_calls.h"
#include "worker/train/update_scalars.h"

namespace cosub::train {

static_assert(static_cast<int>(UpdateScalars::kApplies) == kernels::kApplies &&
              static_cast<int>(UpdateScalars::kUpdates) == kernels::kUpdates &&
              static_cast<int>(UpdateScalars::kLearningRate) == kernels::kLearningRate &&
              static_cast<int>(UpdateScalars::kGradientFactor) == kernels::kGradientFactor &&
              static_cast<int>(UpdateScalars::kGradientNorm) == kernels::kGradientNorm);

const kernels::Kernels* update_kernels(const at::Tensor& values) {
  return model::is_plain_for_kernels(values) ? model::kernels_for(values) : nullptr;
}

kernels::UpdateGroup kernel_group(const ParameterGroup& group, double weight_decay) {
  return {group.begin, group.end, group.lr_scale, group.decays ? weight_decay : 0.0};
}

}  // namespace cosub::train
