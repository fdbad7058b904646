#include <cmath>

#include "worker/model/arch.h"
#include "worker/model/families.h"
#include "worker/model/layers.h"

namespace cosub::model {
namespace {

/// timm's ResNet. Activations are channels_last inside (parameters stay NCHW).
struct ResNetArch {
  bool bottleneck = false;           // by the name, no keyword
  std::vector<std::int64_t> layers;  // blocks of each of the four stages
  std::vector<std::int64_t> channels = {64, 128, 256, 512};
  std::string stem_type = {};    // "" (7x7, 64 wide), deep, deep_tiered (three 3x3)
  std::int64_t stem_width = 64;  // of deep stems, which end twice as wide

  template <class Row, class Visit>
  static void each_key(Row& row, const Visit& visit) {
    visit("layers", row.layers);
    visit("channels", row.channels);
    visit("stem_type", row.stem_type);
    visit("stem_width", row.stem_width);
  }
};

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
      layers_.push_back(add_conv_norm(*this, "conv" + number, "bn" + number, in, out, options, statistics));
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
      downsample_ = add_conv_norm(group(*this, "downsample"), "0", "1", shape.in, shape.out,
                                  {.kernel = 1, .stride = shape.stride}, statistics);
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
      torch::nn::Module& blocks = group(*this, name);
      const std::int64_t width = arch.channels[stage], out = width * (arch.bottleneck ? 4 : 1);
      for (std::int64_t i = 0; i < arch.layers[stage]; ++i, ++block) {
        const std::string path = fmt::format("{}.{}", name, i);
        const std::int64_t branch =
            seam_.declare({path, block, 0.0, weight_and_bias(path + (arch.bottleneck ? ".bn3" : ".bn2"))});
        const ResidualBlock::Shape shape{arch.bottleneck, in, width, out, stage > 0 && i == 0 ? 2 : 1};
        blocks_.push_back(
            add_layer<ResidualBlock>(blocks, std::to_string(i), shape, branch, seam_, batch_statistics_));
        in = out;
      }
    }
    add_classifier("fc", in);
  }

  void init(std::uint64_t stream) override {
    for (auto& item : named_parameters()) {
      if (item.value().dim() == 4) init_he_fan_out(item.value(), 1, stream, item.key());
    }
    const at::NoGradGuard no_grad;
    for (const auto& block : blocks_) block->last_norm().weight.zero_();
    init_torch_default(classifier_->weight, classifier_->bias, stream, classifier());
  }

  at::Tensor forward_features(const at::Tensor& images) override {
    at::Tensor x = stem(seam_.start(images));
    for (const auto& block : blocks_) x = block->forward(x);
    return seam_.finish(x.mean({2, 3}));
  }

  std::vector<LayerPattern> layer_patterns() const override {
    return {{"conv1|bn1", 0}, {R"(layer(\d+)\.(\d+))", 1}};
  }
  BlockLayout block_layout() const override {
    BlockLayout layout{"layers", {}, ""};
    for (std::size_t i = 0; i < arch_.layers.size(); ++i) {
      layout.stages.push_back({fmt::format("layer{}.", i + 1), arch_.layers[i]});
    }
    return layout;
  }
  TimmClass timm_class() const override {
    return {timm_args(arch_), "avg", arch_.stem_type.empty() ? "conv1" : "conv1.0", false};
  }

 private:
  /// conv1 is one 7x7 convolution, or three 3x3 ones under conv1.0, conv1.3, conv1.6 with norms between.
  std::int64_t build_stem() {
    const std::int64_t out = arch_.stem_type.empty() ? 64 : 2 * arch_.stem_width;
    if (arch_.stem_type.empty()) {
      stem_.push_back(add_conv_norm(*this, "conv1", "bn1", config_.channels, out,
                                    {.kernel = 7, .stride = 2, .padding = 3}, batch_statistics_));
      return out;
    }
    const std::int64_t first =
        arch_.stem_type == "deep_tiered" ? 3 * (arch_.stem_width / 4) : arch_.stem_width;
    torch::nn::Module& conv1 = group(*this, "conv1");
    const Conv2d::Options same{.kernel = 3, .stride = 1, .padding = 1};
    const Conv2d::Options half{.kernel = 3, .stride = 2, .padding = 1};
    stem_.push_back(add_conv_norm(conv1, "0", "1", config_.channels, first, half, batch_statistics_));
    stem_.push_back(add_conv_norm(conv1, "3", "4", first, arch_.stem_width, same, batch_statistics_));
    stem_.push_back({add_layer<Conv2d>(conv1, "6", arch_.stem_width, out, same),
                     add_layer<BatchNorm2d>(*this, "bn1", out, batch_statistics_)});
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
  std::vector<ConvNorm> stem_;
  std::vector<std::shared_ptr<ResidualBlock>> blocks_;
};

void check(const config::ModelConfig& config, const ResNetArch& arch) {
  check_per_stage(config, "layers", arch.layers, 4);
  check_per_stage(config, "channels", arch.channels, 4);
  if (arch.stem_width < 4) throw ConfigError("model.arch.stem_width: must be at least 4");
  if (arch.stem_type.empty() && arch.stem_width != 64) {
    throw ConfigError(
        "model.arch.stem_width: the plain 7x7 stem is always 64 wide; set stem_type: deep to choose");
  }
}

const std::map<std::string, ResNetArch>& resnet_archs() {
  static const std::map<std::string, ResNetArch> table = {
      {"resnet18", {false, {2, 2, 2, 2}}},  {"resnet34", {false, {3, 4, 6, 3}}},
      {"resnet26", {true, {2, 2, 2, 2}}},   {"resnet50", {true, {3, 4, 6, 3}}},
      {"resnet101", {true, {3, 4, 23, 3}}}, {"resnet152", {true, {3, 8, 36, 3}}},
  };
  return table;
}

std::shared_ptr<Backbone> create_resnet(const config::ModelConfig& config) {
  const ResNetArch arch = overridden(resnet_archs().at(config.name), config);
  check(config, arch);
  return std::make_shared<ResNet>(config, arch);
}

}  // namespace

Family resnet_family() {
  return {"ResNet", "arXiv 1512.03385", config::DropRateRule::kUniform, names_of(resnet_archs()),
          create_resnet};
}

}  // namespace cosub::model
