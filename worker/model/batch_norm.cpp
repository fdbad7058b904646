#include "worker/model/batch_norm.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>

#include "common/error.h"
#include "worker/model/batch_norm_kernel.h"

namespace cosub::model {
namespace {

RowMatrix rows_of(const at::Tensor& x) {
  return {x.numel() / x.size(1), x.size(1)};
}

const float* data(const at::Tensor& x) {
  return x.const_data_ptr<float>();
}

bool has_row_kernel(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

/// Mean and biased variance by channel of the rows that `count` counts ([] float64; of a group on the layer's
/// device, so that the host need not wait for it).
struct Moments {
  at::Tensor count, mean, var;
};

/// The passes over a batch that make up BatchNorm: batch_norm_kernel.h for a channels_last float batch on
/// CPU, tensor operations for the rest. Per-channel values are [C] in the dtype of `acc_type`.
struct Rows {
  static constexpr std::array<std::int64_t, 3> kAllButChannels{0, 2, 3};
  static at::ScalarType acc_type(const at::Tensor& x) {
    return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  }
  static at::Tensor by_channel(const at::Tensor& values) { return values.view({1, -1, 1, 1}); }

  static Moments moments(const at::Tensor& x) {
    const RowMatrix shape = rows_of(x);
    const at::Tensor count = at::scalar_tensor(static_cast<double>(shape.rows), at::kDouble);
    if (!has_row_kernel(x)) {
      auto [var, mean] = at::var_mean(x.to(acc_type(x)), kAllButChannels, /*unbiased=*/false);
      return {count, mean, var};
    }
    const at::Tensor mean = at::empty({shape.channels}), var = at::empty({shape.channels});
    column_moments(shape, data(x), mean.mutable_data_ptr<float>(), var.mutable_data_ptr<float>());
    return {count, mean, var};
  }

  static at::Tensor normalize(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& scale,
                              const at::Tensor& shift) {
    if (!has_row_kernel(x)) {
      return ((x - by_channel(mean)) * by_channel(scale) + by_channel(shift)).to(x.scalar_type());
    }
    const at::Tensor y = at::empty_like(x);
    normalize_rows(rows_of(x), data(x), data(mean), data(scale), data(shift), y.mutable_data_ptr<float>());
    return y;
  }

  /// sum dy, sum dy * (x - mean)
  static std::pair<at::Tensor, at::Tensor> gradient_sums(const at::Tensor& dy, const at::Tensor& x,
                                                         const at::Tensor& mean) {
    if (!has_row_kernel(x)) {
      const at::Tensor gradient = dy.to(acc_type(x));
      return {gradient.sum(kAllButChannels), (gradient * (x - by_channel(mean))).sum(kAllButChannels)};
    }
    const RowMatrix shape = rows_of(x);
    const at::Tensor sum_dy = at::empty({shape.channels}), sum_dy_x = at::empty({shape.channels});
    model::gradient_sums(shape, data(dy), data(x), data(mean), sum_dy.mutable_data_ptr<float>(),
                         sum_dy_x.mutable_data_ptr<float>());
    return {sum_dy, sum_dy_x};
  }

  static at::Tensor input_gradient(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& mean,
                                   const at::Tensor& scale, const at::Tensor& offset,
                                   const at::Tensor& slope) {
    if (!has_row_kernel(x)) {
      return (dy * by_channel(scale) - by_channel(offset) - (x - by_channel(mean)) * by_channel(slope))
          .to(x.scalar_type());
    }
    const at::Tensor dx = at::empty_like(x);
    model::input_gradient(rows_of(x), data(dy), data(x), data(mean), data(scale), data(offset), data(slope),
                          dx.mutable_data_ptr<float>());
    return dx;
  }
};

/// Over the rows of all ranks (Chan, Golub and LeVeque's pairwise formula, for several at once). In float64
/// and rank by rank, so that every rank gets the same bits.
Moments join(const GroupGather& gather, const Moments& mine) {
  const at::Tensor count = at::full({1}, mine.count.item(), mine.mean.options().dtype(at::kDouble));
  const at::Tensor all = gather(at::cat({count, mine.mean.to(at::kDouble), mine.var.to(at::kDouble)}));
  const std::int64_t channels = mine.mean.size(0);
  const at::Tensor means = all.narrow(1, 1, channels), vars = all.narrow(1, 1 + channels, channels);
  const at::Tensor counts = all.select(1, 0);
  Moments joint{at::zeros_like(counts[0]), at::zeros_like(means[0]), at::zeros_like(means[0])};
  for (std::int64_t r = 0; r < all.size(0); ++r) {
    joint.count.add_(counts[r]);
    joint.mean.add_(means[r] * counts[r]);
  }
  joint.mean.div_(joint.count);
  for (std::int64_t r = 0; r < all.size(0); ++r) {
    joint.var.add_((vars[r] + (means[r] - joint.mean).square()) * counts[r]);
  }
  joint.mean = joint.mean.to(mine.mean.scalar_type());
  joint.var = joint.var.div_(joint.count).to(mine.var.scalar_type());
  return joint;
}

/// The sums of all ranks, in the order of the ranks.
std::pair<at::Tensor, at::Tensor> add_up(const GroupGather& gather, const at::Tensor& first,
                                         const at::Tensor& second) {
  const at::Tensor all = gather(at::cat({first, second}).to(at::kDouble));
  at::Tensor sum = all[0].clone();
  for (std::int64_t r = 1; r < all.size(0); ++r) sum.add_(all[r]);
  sum = sum.to(first.scalar_type());
  return {sum.narrow(0, 0, first.size(0)), sum.narrow(0, first.size(0), second.size(0))};
}

/// A gather as autograd can keep it for the backward pass.
struct KeptGather : public torch::CustomClassHolder {
  explicit KeptGather(std::shared_ptr<const GroupGather> gather_in) : gather(std::move(gather_in)) {}
  std::shared_ptr<const GroupGather> gather;
};

/// Training BatchNorm of this rank's rows, or together with those of its group.
struct RowBatchNorm : public torch::autograd::Function<RowBatchNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, const at::Tensor& bias, at::Tensor* batch_mean,
                            at::Tensor* batch_var, double eps,
                            const std::shared_ptr<const GroupGather>& gather) {
    Moments moments = Rows::moments(x);
    if (gather) moments = join(*gather, moments);
    const at::Tensor inverse_std = (moments.var + eps).rsqrt();
    const at::Tensor y = Rows::normalize(x, moments.mean, inverse_std * weight, bias);
    if (batch_mean->defined()) {  // pointers, because an undefined tensor is no argument to apply()
      batch_mean->copy_(moments.mean);
      batch_var->copy_(moments.var * (moments.count / (moments.count - 1.0)));
    }
    context->save_for_backward({x, weight, moments.mean, inverse_std, moments.count});
    if (gather) {
      context->saved_data["gather"] = c10::IValue::make_capsule(c10::make_intrusive<KeptGather>(gather));
    }
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &mean = saved[2], &inverse_std = saved[3];
    const at::Tensor& count = saved[4];
    const at::Tensor dy =
        has_row_kernel(x) ? gradients[0].contiguous(at::MemoryFormat::ChannelsLast) : gradients[0];
    const auto [sum_dy, sum_dy_x] = Rows::gradient_sums(dy, x, mean);
    auto joint = std::pair(sum_dy, sum_dy_x);
    if (const auto found = context->saved_data.find("gather"); found != context->saved_data.end()) {
      const auto kept = found->second.toCapsule();
      joint = add_up(*static_cast<const KeptGather&>(*kept).gather, sum_dy, sum_dy_x);
    }
    const at::Tensor scale = weight * inverse_std;
    const at::Tensor per_row = scale / count;
    const at::Tensor dx = Rows::input_gradient(dy, x, mean, scale, per_row * joint.first,
                                               per_row * inverse_std.square() * joint.second);
    return {dx, sum_dy_x * inverse_std, sum_dy, {}, {}, {}, {}};
  }
};

}  // namespace

void BatchStatistics::add(BatchNorm2d& layer) {
  layers_.push_back(&layer);
}

void BatchStatistics::normalize_together(GroupGather gather) {
  const auto shared = gather ? std::make_shared<const GroupGather>(std::move(gather)) : nullptr;
  for (BatchNorm2d* layer : layers_) layer->gather_ = shared;
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

void BatchStatistics::update_running(const at::Tensor& flat_sum, std::int64_t num_microbatches,
                                     const at::Tensor& applies) {
  TORCH_CHECK(flat_sum.dim() == 1 && flat_sum.size(0) == size(), "BatchStatistics: the sum must be [size()]");
  const at::NoGradGuard no_grad;
  std::int64_t offset = 0;
  for (BatchNorm2d* layer : layers_) {
    const std::int64_t channels = layer->running_mean.size(0);
    const double share = layer->momentum_ / static_cast<double>(num_microbatches);
    for (at::Tensor* running : {&layer->running_mean, &layer->running_var}) {
      const at::Tensor next =
          running->mul(1.0 - layer->momentum_).add_(flat_sum.narrow(0, offset, channels), share);
      running->copy_(applies.defined() ? at::where(applies.ne(0), next, *running) : next);
      offset += channels;
    }
    if (applies.defined()) layer->num_batches_tracked.add_(applies.to(at::kLong));
    if (!applies.defined()) layer->num_batches_tracked.add_(1);
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
  if (!gather_ && x.numel() == x.size(1)) {
    throw ConfigError(
        fmt::format("BatchNorm over {} channels got a single value per channel (one kept row of 1x1 pixels), "
                    "which has no "
                    "variance: raise batch.micro or model.image_size, or lower model.drop_rate",
                    x.size(1)));
  }
  if (gather_ || has_row_kernel(x)) {
    return RowBatchNorm::apply(x, weight, bias, &batch_mean_, &batch_var_, eps_, gather_);
  }
  // With momentum 1 the "running" tensors become exactly this batch's mean and unbiased variance.
  return at::batch_norm(x, weight, bias, batch_mean_, batch_var_, true, 1.0, eps_, true);
}

}  // namespace cosub::model
