// The few layers the families share, each with torch's parameter names, built uninitialised on CPU in
// float32, and the initialisers. Every parameter is drawn from (stream, kInit, its full name): what else the
// model holds, or the order of construction, changes nothing. Distributions are those of timm 1.0.31.
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>

namespace cosub::model {

/// A module that only groups others under a name ("blocks", "layer1", "downsample").
class Group : public torch::nn::Module {};

class Linear : public torch::nn::Module {
 public:
  Linear(std::int64_t in_features, std::int64_t out_features);
  at::Tensor forward(const at::Tensor& x) const { return at::linear(x, weight, bias); }

  at::Tensor weight, bias;  // [out, in], [out]
};

class LayerNorm : public torch::nn::Module {
 public:
  explicit LayerNorm(std::int64_t features, double eps = 1e-6);
  at::Tensor forward(const at::Tensor& x) const;

  at::Tensor weight, bias;  // [features]

 private:
  double eps_;
};

class Conv2d : public torch::nn::Module {
 public:
  struct Options {
    std::int64_t kernel = 3, stride = 1, padding = 0;
    bool bias = false;
  };
  Conv2d(std::int64_t in_channels, std::int64_t out_channels, Options options);
  at::Tensor forward(const at::Tensor& x) const;

  at::Tensor weight, bias;  // [out, in, k, k], [out] or undefined

 private:
  std::int64_t stride_, padding_;
};

/// Normal with mean 0 (timm's trunc_normal_(std=.02) cuts at 100 standard deviations, so it is this one too).
void init_normal(at::Tensor& tensor, double std, std::uint64_t stream, const std::string& name);
/// Uniform in [-bound, bound).
void init_uniform(at::Tensor& tensor, double bound, std::uint64_t stream, const std::string& name);
/// torch's default for Linear and Conv2d: weight and bias uniform within 1/sqrt(fan_in).
void init_torch_default(at::Tensor& weight, at::Tensor& bias, std::uint64_t stream,
                        const std::string& module_name);

}  // namespace cosub::model
