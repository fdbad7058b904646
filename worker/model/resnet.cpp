#include "worker/model/resnet.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "common/error.h"
#include "worker/model/layers.h"

namespace cosub::model {
namespace {

/// A convolution without bias and its BatchNorm; the names they are registered under are the block's
/// business.
struct ConvNorm {
  std::shared_ptr<Conv2d> conv;
  std::shared_ptr<BatchNorm2d> norm;
  at::Tensor forward(const at::Tensor& x) const { return norm->forward(conv->forward(x)); }
};

ConvNorm conv_norm(torch::nn::Module& owner, const std::string& conv_name, const std::string& norm_name,
                   std::int64_t in, std::int64_t out, Conv2d::Options options, BatchStatistics& statistics) {
  return {owner.register_module(conv_name, std::make_shared<Conv2d>(in, out, options)),
          owner.register_module(norm_name, std::make_shared<BatchNorm2d>(out, statistics))};
}

class ResidualBlock : public torch::nn::Module {
 public:
  struct Shape {
    bool bottleneck = false;
    std::int64_t in = 0, width = 0, out = 0, stride = 1;
  };

  ResidualBlock(const Shape& shape, std::int64_t branch, ResidualSeam& seam, BatchStatistics& statistics)
      : seam_(seam), branch_(branch) {
    const auto add = [&](std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride) {
      const std::string number = std::to_string(layers_.size() + 1);
      const Conv2d::Options options{.kernel = kernel, .stride = stride, .padding = kernel / 2};
      layers_.push_back(conv_norm(*this, "conv" + number, "bn" + number, in, out, options, statistics));
    };
    if (shape.bottleneck) {
      add(shape.in, shape.width, 1, 1);
      add(shape.width, shape.width, 3, shape.stride);
      add(shape.width, shape.out, 1, 1);
    } else {
      add(shape.in, shape.width, 3, shape.stride);
      add(shape.width, shape.out, 3, 1);
    }
    if (shape.stride != 1 || shape.in != shape.out) {
      const auto group = register_module("downsample", std::make_shared<Group>());
      downsample_ =
          conv_norm(*group, "0", "1", shape.in, shape.out, {.kernel = 1, .stride = shape.stride}, statistics);
    }
  }

  at::Tensor forward(const at::Tensor& x) const {
    const at::Tensor shortcut = downsample_.conv ? downsample_.forward(x) : x;
    // Not in place: a dropped block hands back the shortcut itself, which may be somebody else's saved
    // activation.
    return at::relu(seam_.apply(branch_, x, shortcut, [this](const at::Tensor& rows) { return run(rows); }));
  }

  /// The norm whose weight starts at zero, so that each block starts as its shortcut.
  BatchNorm2d& last_norm() { return *layers_.back().norm; }

 private:
  at::Tensor run(const at::Tensor& rows) const {
    at::Tensor x = rows;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      x = layers_[i].forward(x);
      if (i + 1 < layers_.size()) at::relu_(x);
    }
    return x;
  }

  ResidualSeam& seam_;
  std::int64_t branch_;
  std::vector<ConvNorm> layers_;
  ConvNorm downsample_;
};

class ResNet : public Backbone {
 public:
  ResNet(config::ModelConfig config, const ResNetArch& arch) : Backbone(std::move(config)), arch_(arch) {
    std::int64_t in = build_stem();
    std::int64_t block = 0;
    for (std::size_t stage = 0; stage < arch.layers.size(); ++stage) {
      const std::string name = fmt::format("layer{}", stage + 1);
      const auto group = register_module(name, std::make_shared<Group>());
      const std::int64_t width = arch.channels[stage], out = width * (arch.bottleneck ? 4 : 1);
      for (std::int64_t i = 0; i < arch.layers[stage]; ++i, ++block) {
        const std::int64_t branch = seam_.declare({fmt::format("{}.{}", name, i), block, 0.0});
        const ResidualBlock::Shape shape{arch.bottleneck, in, width, out, stage > 0 && i == 0 ? 2 : 1};
        blocks_.push_back(group->register_module(
            std::to_string(i), std::make_shared<ResidualBlock>(shape, branch, seam_, batch_statistics_)));
        in = out;
      }
    }
    num_features_ = in;
    fc_ = register_module("fc", std::make_shared<Linear>(in, config_.classes));
  }

  void init(std::uint64_t stream) {
    for (auto& item : named_parameters()) {
      at::Tensor& weight = item.value();
      if (weight.dim() != 4) continue;
      const double fan_out = static_cast<double>(weight.size(0) * weight.size(2) * weight.size(3));
      init_normal(weight, std::sqrt(2.0 / fan_out), stream, item.key());
    }
    const at::NoGradGuard no_grad;
    for (const auto& block : blocks_) block->last_norm().weight.zero_();
    init_torch_default(fc_->weight, fc_->bias, stream, "fc");
  }

  at::Tensor forward(const at::Tensor& images) override { return fc_->forward(forward_features(images)); }

  at::Tensor forward_features(const at::Tensor& images) override {
    at::Tensor x = stem(seam_.start(images));
    for (const auto& block : blocks_) x = block->forward(x);
    return seam_.finish(x.mean({2, 3}));
  }

  std::string classifier() const override { return "fc"; }
  nlohmann::json timm_config() const override;

 private:
  /// conv1 is one 7x7 convolution, or three 3x3 ones under conv1.0, conv1.3, conv1.6 with norms between.
  std::int64_t build_stem() {
    const std::int64_t out = arch_.stem_type.empty() ? 64 : 2 * arch_.stem_width;
    if (arch_.stem_type.empty()) {
      stem_.push_back(conv_norm(*this, "conv1", "bn1", config_.channels, out,
                                {.kernel = 7, .stride = 2, .padding = 3}, batch_statistics_));
      return out;
    }
    const std::int64_t first =
        arch_.stem_type == "deep_tiered" ? 3 * (arch_.stem_width / 4) : arch_.stem_width;
    const auto group = register_module("conv1", std::make_shared<Group>());
    const Conv2d::Options same{.kernel = 3, .stride = 1, .padding = 1};
    const Conv2d::Options half{.kernel = 3, .stride = 2, .padding = 1};
    stem_.push_back(conv_norm(*group, "0", "1", config_.channels, first, half, batch_statistics_));
    stem_.push_back(conv_norm(*group, "3", "4", first, arch_.stem_width, same, batch_statistics_));
    stem_.push_back({group->register_module("6", std::make_shared<Conv2d>(arch_.stem_width, out, same)),
                     register_module("bn1", std::make_shared<BatchNorm2d>(out, batch_statistics_))});
    return out;
  }

  at::Tensor stem(const at::Tensor& images) const {
    at::Tensor x = images;
    for (const ConvNorm& layer : stem_) {
      x = layer.conv->forward(x).contiguous(at::MemoryFormat::ChannelsLast);
      x = layer.norm->forward(x).relu_();
    }
    return at::max_pool2d(x, {3, 3}, {2, 2}, {1, 1});
  }

  ResNetArch arch_;
  std::int64_t num_features_ = 0;
  std::vector<ConvNorm> stem_;
  std::vector<std::shared_ptr<ResidualBlock>> blocks_;
  std::shared_ptr<Linear> fc_;
};

nlohmann::json ResNet::timm_config() const {
  const std::int64_t size = config_.image_size;
  const bool deep = !arch_.stem_type.empty();
  nlohmann::json args = {
      {"in_chans", config_.channels}, {"layers", arch_.layers}, {"channels", arch_.channels}};
  if (deep) args.update({{"stem_type", arch_.stem_type}, {"stem_width", arch_.stem_width}});
  return {{"architecture", config_.name},
          {"num_classes", config_.classes},
          {"num_features", num_features_},
          {"global_pool", "avg"},
          {"model_args", std::move(args)},
          {"pretrained_cfg",
           {{"num_classes", config_.classes},
            {"input_size", {config_.channels, size, size}},
            {"fixed_input_size", false},
            {"interpolation", "bicubic"},
            {"crop_pct", 1.0},
            {"first_conv", deep ? "conv1.0" : "conv1"},
            {"classifier", "fc"}}}};
}

void check(const config::ModelConfig& config, const ResNetArch& arch) {
  const config::ArchConfig& given = config.arch;
  if (given.patch_size || given.embed_dim || given.depth || given.num_heads || given.mlp_ratio ||
      given.init_values) {
    throw ConfigError(
        fmt::format("model.arch: {} is a ResNet; it knows layers, channels, stem_type and stem_width, "
                    "not patch_size, embed_dim, depth, num_heads, mlp_ratio or init_values",
                    config.name));
  }
  const auto four_positive = [&](const char* key, const std::vector<std::int64_t>& values) {
    if (values.size() == 4 && *std::min_element(values.begin(), values.end()) > 0) return;
    throw ConfigError(fmt::format("model.arch.{}: needs four positive numbers, one for each stage; found {}",
                                  key, nlohmann::json(values).dump()));
  };
  four_positive("layers", arch.layers);
  four_positive("channels", arch.channels);
  if (!arch.stem_type.empty() && arch.stem_type != "deep" && arch.stem_type != "deep_tiered") {
    throw ConfigError(fmt::format("model.arch.stem_type: found '{}'; allowed: '' (7x7), deep, deep_tiered",
                                  arch.stem_type));
  }
  if (arch.stem_width < 4) throw ConfigError("model.arch.stem_width: must be at least 4");
  if (arch.stem_type.empty() && given.stem_width && arch.stem_width != 64) {
    throw ConfigError(
        "model.arch.stem_width: the plain 7x7 stem is always 64 wide; set stem_type: deep to choose");
  }
}

}  // namespace

const std::map<std::string, ResNetArch>& resnet_table() {
  static const std::map<std::string, ResNetArch> table = {
      {"resnet18", {false, {2, 2, 2, 2}}},  {"resnet34", {false, {3, 4, 6, 3}}},
      {"resnet26", {true, {2, 2, 2, 2}}},   {"resnet50", {true, {3, 4, 6, 3}}},
      {"resnet101", {true, {3, 4, 23, 3}}}, {"resnet152", {true, {3, 8, 36, 3}}},
  };
  return table;
}

std::shared_ptr<Backbone> create_resnet(const config::ModelConfig& config, std::uint64_t stream) {
  ResNetArch arch = resnet_table().at(config.name);
  const config::ArchConfig& given = config.arch;
  arch.layers = given.layers.value_or(arch.layers);
  arch.channels = given.channels.value_or(arch.channels);
  arch.stem_type = given.stem_type.value_or(arch.stem_type);
  arch.stem_width = given.stem_width.value_or(arch.stem_width);
  check(config, arch);
  auto model = std::make_shared<ResNet>(config, arch);
  model->init(stream);
  return model;
}

}  // namespace cosub::model
