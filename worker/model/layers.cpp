#include "worker/model/layers.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "common/random.h"
#include "worker/model/kernel_calls.h"
#include "worker/model/linear_node.h"
#include "worker/model/parallel_pieces.h"

namespace cosub::model {
namespace {

/// Fills a contiguous float32 tensor with draw(random), in pieces of one key each (a key has 2^18 words), so
/// that the pieces may be drawn by any number of threads.
template <typename Draw>
void fill(at::Tensor& tensor, std::uint64_t stream, const std::string& name, const Draw& draw) {
  constexpr std::int64_t kPiece = 1 << 15;
  const at::NoGradGuard no_grad;
  float* values = tensor.data_ptr<float>();
  const std::int64_t numel = tensor.numel();
  const std::uint64_t hash = stream_seed(0, name),
                      low = hash & ((std::uint64_t{1} << 48) - 1);  // a key takes 48 bits
  in_parallel((numel + kPiece - 1) / kPiece, [&](std::int64_t piece) {
    KeyedRandom random(stream, Purpose::kInit, hash >> 48, low, static_cast<std::uint32_t>(piece));
    const std::int64_t begin = piece * kPiece, end = std::min(begin + kPiece, numel);
    for (std::int64_t i = begin; i < end; ++i) values[i] = static_cast<float>(draw(random));
  });
}

}  // namespace

torch::nn::Module& group(torch::nn::Module& owner, const std::string& name) {
  for (const auto& child : owner.named_children()) {
    if (child.key() == name) return *child.value();
  }
  return *add_layer<Group>(owner, name);
}

Linear::Linear(std::int64_t in_features, std::int64_t out_features, bool has_bias) {
  weight = register_parameter("weight", at::zeros({out_features, in_features}));
  if (has_bias) bias = register_parameter("bias", at::zeros({out_features}));
}

Pointwise::Pointwise(std::int64_t in_channels, std::int64_t out_channels) {
  weight = register_parameter("weight", at::zeros({out_channels, in_channels, 1, 1}));
  bias = register_parameter("bias", at::zeros({out_channels}));
}

LayerNorm::LayerNorm(std::int64_t features, double eps) : eps_(eps) {
  weight = register_parameter("weight", at::ones({features}));
  bias = register_parameter("bias", at::zeros({features}));
}

Conv2d::Conv2d(std::int64_t in_channels, std::int64_t out_channels, Options options) : options_(options) {
  weight = register_parameter(
      "weight", at::zeros({out_channels, in_channels / options.groups, options.kernel, options.kernel}));
  if (options.bias) bias = register_parameter("bias", at::zeros({out_channels}));
}

at::Tensor Conv2d::in_patches(const at::Tensor& x) const {
  const std::int64_t side = options_.kernel, rows = x.size(2) / side, columns = x.size(3) / side;
  const bool by_kernels = is_linear_for_kernels(x, weight, bias);  // its products' dtype halves the copy
  const at::Tensor patches = (by_kernels ? x.to(*product_dtype(x)) : x)
                                 .view({x.size(0), x.size(1), rows, side, columns, side})
                                 .permute({0, 2, 4, 1, 3, 5})
                                 .reshape({x.size(0), rows, columns, weight.numel() / weight.size(0)});
  return linear(patches, weight.flatten(1), bias).permute({0, 3, 1, 2});
}

at::Tensor Conv2d::forward(const at::Tensor& x) const {
  const bool by_patches = options_.kernel > 2 && options_.stride == options_.kernel &&
                          options_.padding == 0 && options_.groups == 1 && x.size(2) % options_.kernel == 0 &&
                          x.size(3) % options_.kernel == 0;
  if (by_patches && (x.is_cpu() || kernels_for(x) != nullptr) && x.is_contiguous()) return in_patches(x);
  const std::array<std::int64_t, 2> stride = {options_.stride, options_.stride};
  const std::array<std::int64_t, 2> padding = {options_.padding, options_.padding};
  // Parameters stay NCHW; left to itself the convolution would convert them anew in each of its three passes.
  return conv2d(x, weight.contiguous(x.suggest_memory_format()), bias, stride, padding, options_.groups);
}

ConvNorm add_conv_norm(torch::nn::Module& owner, const std::string& conv_name, const std::string& norm_name,
                       std::int64_t in, std::int64_t out, Conv2d::Options options,
                       BatchStatistics& statistics) {
  return {add_layer<Conv2d>(owner, conv_name, in, out, options),
          add_layer<BatchNorm2d>(owner, norm_name, out, statistics)};
}

std::vector<std::string> weight_and_bias(const std::string& name) {
  return {name + ".weight", name + ".bias"};
}

void init_normal(at::Tensor& tensor, double std, std::uint64_t stream, const std::string& name) {
  fill(tensor, stream, name, [std](KeyedRandom& random) { return std * random.normal(); });
}

void init_uniform(at::Tensor& tensor, double bound, std::uint64_t stream, const std::string& name) {
  fill(tensor, stream, name, [bound](KeyedRandom& random) { return bound * (2.0 * random.uniform() - 1.0); });
}

void init_torch_default(at::Tensor& weight, at::Tensor& bias, std::uint64_t stream,
                        const std::string& module_name) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(weight.numel() / weight.size(0)));
  init_uniform(weight, bound, stream, module_name + ".weight");
  if (bias.defined()) init_uniform(bias, bound, stream, module_name + ".bias");
}

void init_he_fan_out(at::Tensor& weight, std::int64_t groups, std::uint64_t stream, const std::string& name) {
  const std::int64_t fan_out = weight.size(0) * weight.size(2) * weight.size(3) / groups;
  init_normal(weight, std::sqrt(2.0 / static_cast<double>(fan_out)), stream, name);
}

}  // namespace cosub::model
