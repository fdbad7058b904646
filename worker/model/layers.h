// The few layers the families share, each with torch's parameter names, built uninitialised on CPU in
// float32, and the initialisers. Every parameter is drawn from (stream, kInit, its full name): what else the
// model holds, or the order of construction, changes nothing. Distributions are those of timm 1.0.31.
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/model/batch_norm.h"
#include "worker/model/cpu_products.h"
#include "worker/model/mlp.h"
#include "worker/model/norm.h"

namespace cosub::model {

/// A module that only groups others under a name ("blocks", "layer1", "downsample").
class Group : public torch::nn::Module {};

/// The group of that name in `owner`, made where it is not there yet.
torch::nn::Module& group(torch::nn::Module& owner, const std::string& name);

/// Makes a layer and registers it.
template <class Layer, class... Arguments>
std::shared_ptr<Layer> add_layer(torch::nn::Module& owner, const std::string& name,
                                 Arguments&&... arguments) {
  return owner.register_module(name, std::make_shared<Layer>(std::forward<Arguments>(arguments)...));
}

class Linear : public torch::nn::Module {
 public:
  Linear(std::int64_t in_features, std::int64_t out_features, bool has_bias = true);
  at::Tensor forward(const at::Tensor& x) const { return linear(x, weight, bias); }
  LinearMap map() const { return {weight, bias}; }

  at::Tensor weight, bias;  // [out, in], [out] or undefined
};

/// A 1x1 convolution's parameters, applied as the linear map over the last dimension that it is.
class Pointwise : public torch::nn::Module {
 public:
  Pointwise(std::int64_t in_channels, std::int64_t out_channels);
  at::Tensor forward(const at::Tensor& x) const { return linear(x, weight.flatten(1), bias); }
  LinearMap map() const { return {weight.flatten(1), bias}; }

  at::Tensor weight, bias;  // [out, in, 1, 1], [out]
};

class LayerNorm : public torch::nn::Module {
 public:
  explicit LayerNorm(std::int64_t features, double eps = 1e-6);
  at::Tensor forward(const at::Tensor& x) const { return norm()(x); }  // over the last dimension
  Norm norm() const { return {weight, bias, eps_}; }                   // for the seam

  at::Tensor weight, bias;  // [features]

 private:
  double eps_;
};

class Conv2d : public torch::nn::Module {
 public:
  struct Options {
    std::int64_t kernel = 3, stride = 1, padding = 0, groups = 1;
    bool bias = false;
  };
  Conv2d(std::int64_t in_channels, std::int64_t out_channels, Options options);
  at::Tensor forward(const at::Tensor& x) const;

  at::Tensor weight, bias;  // [out, in / groups, k, k], [out] or undefined

 private:
  /// Patches that do not overlap are rows of a matrix: on a CPU their one product is faster than a
  /// convolution.
  at::Tensor in_patches(const at::Tensor& x) const;

  Options options_;
};

/// A convolution without bias and its BatchNorm; the names they are registered under are the owner's
/// business.
struct ConvNorm {
  std::shared_ptr<Conv2d> conv;
  std::shared_ptr<BatchNorm2d> norm;
  at::Tensor forward(const at::Tensor& x) const { return norm->forward(conv->forward(x)); }
};
ConvNorm add_conv_norm(torch::nn::Module& owner, const std::string& conv_name, const std::string& norm_name,
                       std::int64_t in, std::int64_t out, Conv2d::Options options,
                       BatchStatistics& statistics);

/// The transformers' MLP with GELU, over the last dimension: fc1, fc2.
template <class Layer>
class MlpOf : public torch::nn::Module {
 public:
  MlpOf(std::int64_t dim, std::int64_t hidden)
      : fc1_(add_layer<Layer>(*this, "fc1", dim, hidden)),
        fc2_(add_layer<Layer>(*this, "fc2", hidden, dim)) {}
  at::Tensor forward(const at::Tensor& x) const { return mlp(x, fc1_->map(), fc2_->map()); }

 private:
  std::shared_ptr<Layer> fc1_, fc2_;
};
using Mlp = MlpOf<Linear>;

/// {NAME.weight, NAME.bias}: the last affine map of a branch that ends in a linear layer or a norm.
std::vector<std::string> weight_and_bias(const std::string& name);

/// Normal with mean 0 (timm's trunc_normal_(std=.02) cuts at 100 standard deviations, so it is this one too).
void init_normal(at::Tensor& tensor, double std, std::uint64_t stream, const std::string& name);
/// Uniform in [-bound, bound).
void init_uniform(at::Tensor& tensor, double bound, std::uint64_t stream, const std::string& name);
/// torch's default for Linear and Conv2d: weight and bias uniform within 1/sqrt(fan_in). An undefined bias is
/// left out.
void init_torch_default(at::Tensor& weight, at::Tensor& bias, std::uint64_t stream,
                        const std::string& module_name);
/// What torch does for the convolutions: normal with variance 2 / fan_out ("He"), fan_out = out * k * k /
/// groups.
void init_he_fan_out(at::Tensor& weight, std::int64_t groups, std::uint64_t stream, const std::string& name);

}  // namespace cosub::model
