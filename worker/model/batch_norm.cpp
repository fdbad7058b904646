#include "worker/model/batch_norm.h"

#include <fmt/format.h>

#include "common/error.h"

namespace cosub::model {

void BatchStatistics::add(BatchNorm2d& layer) {
  layers_.push_back(&layer);
}

std::int64_t BatchStatistics::size() const {
  std::int64_t size = 0;
  for (const BatchNorm2d* layer : layers_) size += 2 * layer->running_mean.size(0);
  return size;
}

void BatchStatistics::write_to(const at::Tensor& flat) {
  TORCH_CHECK(flat.dim() == 1 && flat.size(0) == size() && flat.is_contiguous(),
              "BatchStatistics: the flat buffer must be contiguous [size()]");
  std::int64_t offset = 0;
  for (BatchNorm2d* layer : layers_) {
    const std::int64_t channels = layer->running_mean.size(0);
    // variable_data: a view with a version counter of its own, because autograd keeps these until the
    // backward pass while other layers write to their parts of the same buffer.
    layer->batch_mean_ = flat.narrow(0, offset, channels).variable_data();
    layer->batch_var_ = flat.narrow(0, offset + channels, channels).variable_data();
    layer->batch_mean_.copy_(layer->running_mean);
    layer->batch_var_.copy_(layer->running_var);
    offset += 2 * channels;
  }
}

void BatchStatistics::update_running(const at::Tensor& flat_sum, std::int64_t num_microbatches) {
  TORCH_CHECK(flat_sum.dim() == 1 && flat_sum.size(0) == size(), "BatchStatistics: the sum must be [size()]");
  const at::NoGradGuard no_grad;
  std::int64_t offset = 0;
  for (BatchNorm2d* layer : layers_) {
    const std::int64_t channels = layer->running_mean.size(0);
    const double share = layer->momentum_ / static_cast<double>(num_microbatches);
    layer->running_mean.mul_(1.0 - layer->momentum_).add_(flat_sum.narrow(0, offset, channels), share);
    layer->running_var.mul_(1.0 - layer->momentum_)
        .add_(flat_sum.narrow(0, offset + channels, channels), share);
    layer->num_batches_tracked.add_(1);
    offset += 2 * channels;
  }
}

BatchNorm2d::BatchNorm2d(std::int64_t channels, BatchStatistics& statistics, double eps, double momentum)
    : eps_(eps), momentum_(momentum) {
  weight = register_parameter("weight", at::ones({channels}));
  bias = register_parameter("bias", at::zeros({channels}));
  running_mean = register_buffer("running_mean", at::zeros({channels}));
  running_var = register_buffer("running_var", at::ones({channels}));
  num_batches_tracked = register_buffer("num_batches_tracked", at::zeros({}, at::kLong));
  statistics.add(*this);
}

at::Tensor BatchNorm2d::forward(const at::Tensor& x) {
  if (!is_training()) {
    return at::batch_norm(x, weight, bias, running_mean, running_var, false, momentum_, eps_, true);
  }
  if (x.numel() == x.size(1)) {
    throw ConfigError(
        fmt::format("BatchNorm over {} channels got a single value per channel (one kept row of 1x1 pixels), "
                    "which has no "
                    "variance: raise batch.micro or model.image_size, or lower model.drop_rate",
                    x.size(1)));
  }
  // With momentum 1 the "running" tensors become exactly this batch's mean and unbiased variance.
  return at::batch_norm(x, weight, bias, batch_mean_, batch_var_, true, 1.0, eps_, true);
}

}  // namespace cosub::model
