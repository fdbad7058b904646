#include <cmath>

#include "worker/model/arch.h"
#include "worker/model/families.h"
#include "worker/model/layers.h"

namespace cosub::model {
namespace {

/// timm's RegNet, whose keyword arguments are those of its RegNetCfg. Activations are channels_last inside.
struct RegNetArch {
  static constexpr std::int64_t kNumStages = 4;
  std::int64_t w0 = 24;
  double wa = 36.44, wm = 2.49;
  std::int64_t group_size = 8, depth = 13;
  double se_ratio = 0.25;
  std::int64_t stem_width = 32;

  template <class Row, class Visit>
  static void each_key(Row& row, const Visit& visit) {
    visit("w0", row.w0);
    visit("wa", row.wa);
    visit("wm", row.wm);
    visit("group_size", row.group_size);
    visit("depth", row.depth);
    visit("se_ratio", row.se_ratio);
    visit("stem_width", row.stem_width);
  }
};

struct StageShape {
  std::int64_t width = 0, depth = 0, group_size = 0;
};

std::int64_t rounded_to(double value, std::int64_t multiple) {
  return std::llrint(value / static_cast<double>(multiple)) * multiple;  // halves to even
}

/// The linear rule of arXiv 2003.13678 (section 3.3): block i wants the width w0 + wa * i, which is moved to
/// the nearest w0 * wm^k, then to a multiple of 8; blocks of one width are a stage. Groups wider than a stage
/// are cut to it, and its width is rounded to whole groups.
std::vector<StageShape> stages_of(const RegNetArch& arch) {
  std::map<std::int64_t, std::int64_t> depth_by_width;
  for (std::int64_t i = 0; i < arch.depth; ++i) {
    const double wanted = static_cast<double>(arch.w0) + arch.wa * static_cast<double>(i);
    const double exponent =
        std::nearbyint(std::log(wanted / static_cast<double>(arch.w0)) / std::log(arch.wm));
    ++depth_by_width[rounded_to(static_cast<double>(arch.w0) * std::pow(arch.wm, exponent), 8)];
  }
  std::vector<StageShape> stages;
  for (const auto& [width, depth] : depth_by_width) {
    const std::int64_t group_size = std::min(arch.group_size, width);
    stages.push_back({rounded_to(static_cast<double>(width), group_size), depth, group_size});
  }
  return stages;
}

/// Squeeze and excitation (arXiv 1709.01507): channels weighted by what their means say.
class SqueezeExcite : public torch::nn::Module {
 public:
  SqueezeExcite(std::int64_t channels, std::int64_t reduced) {
    fc1_ = add_layer<Pointwise>(*this, "fc1", channels, reduced);
    fc2_ = add_layer<Pointwise>(*this, "fc2", reduced, channels);
  }
  at::Tensor forward(const at::Tensor& x) const {
    const at::Tensor gate = fc2_->forward(at::relu(fc1_->forward(x.mean({2, 3})))).sigmoid();
    return x * gate.unsqueeze(2).unsqueeze(3);
  }

 private:
  std::shared_ptr<Pointwise> fc1_, fc2_;
};

class RegNetBlock : public torch::nn::Module {
 public:
  struct Shape {
    std::int64_t in = 0, out = 0, stride = 1, group_size = 1;
    double se_ratio = 0.25;
  };

  RegNetBlock(const Shape& shape, const std::string& name, std::int64_t index, ResidualSeam& seam,
              BatchStatistics& statistics)
      : seam_(seam), branch_(seam.declare({name, index, 0.0, weight_and_bias(name + ".conv3.bn")})) {
    const auto add = [&](const char* layer, std::int64_t in, Conv2d::Options options) {
      return add_conv_norm(group(*this, layer), "conv", "bn", in, shape.out, options, statistics);
    };
    conv1_ = add("conv1", shape.in, {.kernel = 1});
    conv2_ = add("conv2", shape.out,
                 {.kernel = 3, .stride = shape.stride, .padding = 1, .groups = shape.out / shape.group_size});
    const std::int64_t reduced = std::llrint(static_cast<double>(shape.in) * shape.se_ratio);
    if (reduced > 0) se_ = add_layer<SqueezeExcite>(*this, "se", shape.out, reduced);
    conv3_ = add("conv3", shape.out, {.kernel = 1});
    if (shape.stride != 1 || shape.in != shape.out) {
      downsample_ = add("downsample", shape.in, {.kernel = 1, .stride = shape.stride});
    }
  }

  at::Tensor forward(const at::Tensor& x) const {
    const at::Tensor shortcut = downsample_.conv ? downsample_.forward(x) : x;
    return at::relu(seam_.apply(branch_, x, shortcut, [this](const at::Tensor& rows) {
      const at::Tensor hidden = conv2_.forward(conv1_.forward(rows).relu_()).relu_();
      return conv3_.forward(se_ ? se_->forward(hidden) : hidden);
    }));
  }

  /// The norm whose weight starts at zero, so that each block starts as its shortcut.
  BatchNorm2d& last_norm() { return *conv3_.norm; }

 private:
  ResidualSeam& seam_;
  std::int64_t branch_;
  ConvNorm conv1_, conv2_, conv3_, downsample_;
  std::shared_ptr<SqueezeExcite> se_;
};

class RegNet : public Backbone {
 public:
  RegNet(config::ModelConfig config, const RegNetArch& arch, const std::vector<StageShape>& stages)
      : Backbone(std::move(config)), arch_(arch) {
    stem_ = add_conv_norm(group(*this, "stem"), "conv", "bn", config_.channels, arch.stem_width,
                          {.kernel = 3, .stride = 2, .padding = 1}, batch_statistics_);
    std::int64_t in = arch.stem_width, index = 0;
    for (std::size_t stage = 0; stage < stages.size(); ++stage) {
      const StageShape& shape = stages[stage];
      const std::string name = fmt::format("s{}", stage + 1);
      for (std::int64_t i = 0; i < shape.depth; ++i, ++index) {
        const std::string block = fmt::format("b{}", i + 1);
        blocks_.push_back(add_layer<RegNetBlock>(
            group(*this, name), block,
            RegNetBlock::Shape{in, shape.width, i == 0 ? 2 : 1, shape.group_size, arch.se_ratio},
            name + "." + block, index, seam_, batch_statistics_));
        in = shape.width;
      }
    }
    add_classifier("head.fc", in);
  }

  void init(std::uint64_t stream) override {
    for (auto& item : named_parameters()) {
      at::Tensor& weight = item.value();
      if (weight.dim() != 4) continue;
      const bool grouped = item.key().ends_with(".conv2.conv.weight");
      init_he_fan_out(weight, grouped ? weight.size(0) / weight.size(1) : 1, stream, item.key());
    }
    const at::NoGradGuard no_grad;
    for (const auto& block : blocks_) block->last_norm().weight.zero_();
    init_normal(classifier_->weight, 0.01, stream, classifier() + ".weight");
  }

  at::Tensor forward_features(const at::Tensor& images) override {
    at::Tensor x = stem_.conv->forward(seam_.start(images)).contiguous(at::MemoryFormat::ChannelsLast);
    x = stem_.norm->forward(x).relu_();
    for (const auto& block : blocks_) x = block->forward(x);
    return seam_.finish(x.mean({2, 3}));
  }

  std::vector<LayerPattern> layer_patterns() const override {
    return {{"stem", 0}, {R"(s(\d+)\.b(\d+))", 1}};
  }
  BlockLayout block_layout() const override {
    return {"depth",
            {},
            "RegNet's widths and depths follow together from w0, wa, wm and depth, so that no other row "
            "describes this one without some of its blocks"};
  }
  TimmClass timm_class() const override { return {timm_args(arch_), "avg", "stem.conv", false}; }

 private:
  RegNetArch arch_;
  ConvNorm stem_;
  std::vector<std::shared_ptr<RegNetBlock>> blocks_;
};

const std::map<std::string, RegNetArch>& regnet_archs() {
  static const std::map<std::string, RegNetArch> table = {
      {"regnety_002", {24, 36.44, 2.49, 8, 13}},     {"regnety_004", {48, 27.89, 2.09, 8, 16}},
      {"regnety_008", {56, 38.84, 2.4, 16, 14}},     {"regnety_016", {48, 20.71, 2.65, 24, 27}},
      {"regnety_032", {80, 42.63, 2.66, 24, 21}},    {"regnety_040", {96, 31.41, 2.24, 64, 22}},
      {"regnety_064", {112, 33.22, 2.27, 72, 25}},   {"regnety_080", {192, 76.82, 2.19, 56, 17}},
      {"regnety_120", {168, 73.36, 2.37, 112, 19}},  {"regnety_160", {200, 106.23, 2.48, 112, 18}},
      {"regnety_320", {232, 115.89, 2.53, 232, 20}},
  };
  return table;
}

std::shared_ptr<Backbone> create_regnet(const config::ModelConfig& config) {
  const RegNetArch arch = overridden(regnet_archs().at(config.name), config);
  if (arch.w0 % 8 != 0) throw ConfigError(fmt::format("model.arch.w0: {} is not a multiple of 8", arch.w0));
  const std::vector<StageShape> stages = stages_of(arch);
  if (static_cast<std::int64_t>(stages.size()) != RegNetArch::kNumStages) {
    throw ConfigError(fmt::format(
        "model.arch: w0 {}, wa {}, wm {} and depth {} make {} stages; a RegNet has {}. Raise wa or depth "
        "for more of them",
        arch.w0, arch.wa, arch.wm, arch.depth, stages.size(), RegNetArch::kNumStages));
  }
  return std::make_shared<RegNet>(config, arch, stages);
}

}  // namespace

Family regnet_family() {
  return {"RegNet", "arXiv 2003.13678", config::DropRateRule::kUniform, names_of(regnet_archs()),
          create_regnet};
}

}  // namespace cosub::model
