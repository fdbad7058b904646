#include "worker/model/batch_norm.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include "common/error.h"
#include "worker/model/batch_norm_kernel.h"

namespace cosub::model {
namespace {

RowMatrix rows_of(const at::Tensor& x) {
  return {x.numel() / x.size(1), x.size(1), at::get_num_threads()};
}

const float* data(const at::Tensor& x) {
  return x.const_data_ptr<float>();
}

/// Training BatchNorm of a channels_last float batch on CPU, by batch_norm_kernel.h.
struct RowBatchNorm : public torch::autograd::Function<RowBatchNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, const at::Tensor& bias, at::Tensor* batch_mean,
                            at::Tensor* batch_var, double eps) {
    const RowMatrix shape = rows_of(x);
    const at::Tensor mean = at::empty({shape.channels}), var = at::empty({shape.channels});
    column_moments(shape, data(x), mean.mutable_data_ptr<float>(), var.mutable_data_ptr<float>());
    const at::Tensor inverse_std = (var + eps).rsqrt();
    const at::Tensor y = at::empty_like(x);
    normalize_rows(shape, data(x), data(mean), data(inverse_std * weight), data(bias),
                   y.mutable_data_ptr<float>());
    if (batch_mean->defined()) {  // pointers, because an undefined tensor is no argument to apply()
      const auto count = static_cast<double>(shape.rows);
      batch_mean->copy_(mean);
      batch_var->copy_(var * (count / (count - 1.0)));
    }
    context->save_for_backward({x, weight, mean, inverse_std});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &mean = saved[2], &inverse_std = saved[3];
    const RowMatrix shape = rows_of(x);
    const at::Tensor dy = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor sum_dy = at::empty({shape.channels}), sum_dy_x = at::empty({shape.channels});
    gradient_sums(shape, data(dy), data(x), data(mean), sum_dy.mutable_data_ptr<float>(),
                  sum_dy_x.mutable_data_ptr<float>());
    const at::Tensor scale = weight * inverse_std;
    const at::Tensor per_row = scale / static_cast<double>(shape.rows);
    const at::Tensor dx = at::empty_like(x);
    input_gradient(shape, data(dy), data(x), data(mean), data(scale), data(per_row * sum_dy),
                   data(per_row * inverse_std.square() * sum_dy_x), dx.mutable_data_ptr<float>());
    return {dx, sum_dy_x * inverse_std, sum_dy, {}, {}, {}};
  }
};

bool has_row_kernel(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace

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
  if (has_row_kernel(x)) return RowBatchNorm::apply(x, weight, bias, &batch_mean_, &batch_var_, eps_);
  // With momentum 1 the "running" tensors become exactly this batch's mean and unbiased variance.
  return at::batch_norm(x, weight, bias, batch_mean_, batch_var_, true, 1.0, eps_, true);
}

}  // namespace cosub::model
