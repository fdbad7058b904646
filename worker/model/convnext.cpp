#include "worker/model/arch.h"
#include "worker/model/families.h"
#include "worker/model/layers.h"

namespace cosub::model {
namespace {

/// timm's ConvNeXt with the patch stem and the norm after pooling. Activations are [N, H, W, C] inside.
struct ConvNextArch {
  static constexpr std::size_t kNumStages = 4;
  std::vector<std::int64_t> depths, dims;  // by stage
  bool conv_mlp = false;  // the MLP's parameters are 1x1 convolutions', the function is the same
  std::int64_t patch_size = 4;
  double ls_init_value = 1e-6;

  template <class Row, class Visit>
  static void each_key(Row& row, const Visit& visit) {
    visit("depths", row.depths);
    visit("dims", row.dims);
    visit("conv_mlp", row.conv_mlp);
    visit("patch_size", row.patch_size);
    visit("ls_init_value", row.ls_init_value);
  }
  /// After a stem of stride 2 the first stage halves the grid as well.
  std::int64_t stride(std::size_t stage) const { return stage > 0 || patch_size == 2 ? 2 : 1; }
};

/// A convolution over [N, H, W, C], which for the convolution is NCHW in channels_last.
at::Tensor convolve(const Conv2d& conv, const at::Tensor& x) {
  return conv.forward(x.permute({0, 3, 1, 2})).permute({0, 2, 3, 1}).contiguous();
}

class ConvNextBlock : public torch::nn::Module {
 public:
  ConvNextBlock(std::int64_t dim, const ConvNextArch& arch, const std::string& name, std::int64_t index,
                ResidualSeam& seam)
      : seam_(seam), branch_(seam.declare({name, index, 0.0, {name + ".gamma"}})) {
    gamma_ = register_parameter("gamma", at::full({dim}, arch.ls_init_value));
    conv_dw_ = add_layer<Conv2d>(*this, "conv_dw", dim, dim,
                                 Conv2d::Options{.kernel = 7, .padding = 3, .groups = dim, .bias = true});
    norm_ = add_layer<LayerNorm>(*this, "norm", dim);
    if (arch.conv_mlp)
      conv_mlp_ = add_layer<MlpOf<Pointwise>>(*this, "mlp", dim, 4 * dim);
    else
      mlp_ = add_layer<Mlp>(*this, "mlp", dim, 4 * dim);
  }

  at::Tensor forward(const at::Tensor& x) const {
    return seam_.apply(branch_, x, [this](const at::Tensor& rows) {
      const at::Tensor mixed = norm_->forward(convolve(*conv_dw_, rows));
      return gamma_ * (mlp_ ? mlp_->forward(mixed) : conv_mlp_->forward(mixed));
    });
  }

 private:
  ResidualSeam& seam_;
  std::int64_t branch_;
  at::Tensor gamma_;
  std::shared_ptr<Conv2d> conv_dw_;
  std::shared_ptr<LayerNorm> norm_;
  std::shared_ptr<Mlp> mlp_;
  std::shared_ptr<MlpOf<Pointwise>> conv_mlp_;
};

class ConvNext : public Backbone {
 public:
  ConvNext(config::ModelConfig config, const ConvNextArch& arch) : Backbone(std::move(config)), arch_(arch) {
    torch::nn::Module& stem = group(*this, "stem");
    stem_conv_ = add_layer<Conv2d>(
        stem, "0", config_.channels, arch.dims[0],
        Conv2d::Options{.kernel = arch.patch_size, .stride = arch.patch_size, .bias = true});
    stem_norm_ = add_layer<LayerNorm>(stem, "1", arch.dims[0]);
    std::int64_t in = arch.dims[0], index = 0;
    for (std::size_t i = 0; i < ConvNextArch::kNumStages; ++i) {
      torch::nn::Module& group_of_stage = group(group(*this, "stages"), std::to_string(i));
      const std::int64_t out = arch.dims[i], stride = arch.stride(i);
      Stage stage;
      if (stride > 1 || in != out) {
        torch::nn::Module& downsample = group(group_of_stage, "downsample");
        stage.norm = add_layer<LayerNorm>(downsample, "0", in);
        stage.conv = add_layer<Conv2d>(downsample, "1", in, out,
                                       Conv2d::Options{.kernel = stride, .stride = stride, .bias = true});
      }
      for (std::int64_t j = 0; j < arch.depths[i]; ++j, ++index) {
        stage.blocks.push_back(add_layer<ConvNextBlock>(group(group_of_stage, "blocks"), std::to_string(j),
                                                        out, arch, fmt::format("stages.{}.blocks.{}", i, j),
                                                        index, seam_));
      }
      stages_.push_back(std::move(stage));
      in = out;
    }
    head_norm_ = add_layer<LayerNorm>(group(*this, "head"), "norm", in);
    add_classifier("head.fc", in);
  }

  void init(std::uint64_t stream) override {
    for (auto& item : named_parameters()) {
      if (item.value().dim() >= 2) init_normal(item.value(), 0.02, stream, item.key());
    }
  }

  at::Tensor forward_features(const at::Tensor& images) override {
    at::Tensor x = stem_conv_->forward(seam_.start(images)).permute({0, 2, 3, 1}).contiguous();
    x = stem_norm_->forward(x);
    for (const Stage& stage : stages_) {
      if (stage.conv) x = convolve(*stage.conv, stage.norm->forward(x));
      for (const auto& block : stage.blocks) x = block->forward(x);
    }
    return head_norm_->forward(seam_.finish(x).mean({1, 2}));
  }

  std::vector<LayerPattern> layer_patterns() const override {
    return {{"stem", 0}, {R"(stages\.(\d+)\.downsample)", 1, 0}, {R"(stages\.(\d+)\.blocks\.(\d+))", 1}};
  }
  BlockLayout block_layout() const override {
    BlockLayout layout{"depths", {}, ""};
    for (std::size_t i = 0; i < arch_.depths.size(); ++i) {
      layout.stages.push_back({fmt::format("stages.{}.blocks.", i), arch_.depths[i]});
    }
    return layout;
  }
  TimmClass timm_class() const override { return {timm_args(arch_), "avg", "stem.0", false}; }

 private:
  struct Stage {
    std::shared_ptr<LayerNorm> norm;
    std::shared_ptr<Conv2d> conv;
    std::vector<std::shared_ptr<ConvNextBlock>> blocks;
  };

  ConvNextArch arch_;
  std::shared_ptr<Conv2d> stem_conv_;
  std::shared_ptr<LayerNorm> stem_norm_, head_norm_;
  std::vector<Stage> stages_;
};

const std::map<std::string, ConvNextArch>& convnext_archs() {
  static const std::map<std::string, ConvNextArch> table = {
      {"convnext_atto", {{2, 2, 6, 2}, {40, 80, 160, 320}, true}},
      {"convnext_femto", {{2, 2, 6, 2}, {48, 96, 192, 384}, true}},
      {"convnext_pico", {{2, 2, 6, 2}, {64, 128, 256, 512}, true}},
      {"convnext_nano", {{2, 2, 8, 2}, {80, 160, 320, 640}, true}},
      {"convnext_tiny", {{3, 3, 9, 3}, {96, 192, 384, 768}}},
      {"convnext_small", {{3, 3, 27, 3}, {96, 192, 384, 768}}},
      {"convnext_base", {{3, 3, 27, 3}, {128, 256, 512, 1024}}},
      {"convnext_large", {{3, 3, 27, 3}, {192, 384, 768, 1536}}},
      {"convnext_xlarge", {{3, 3, 27, 3}, {256, 512, 1024, 2048}}},
  };
  return table;
}

void check(const config::ModelConfig& config, const ConvNextArch& arch) {
  check_per_stage(config, "depths", arch.depths, ConvNextArch::kNumStages);
  check_per_stage(config, "dims", arch.dims, ConvNextArch::kNumStages);
  if (arch.patch_size > 7) {
    throw ConfigError(
        fmt::format("model.arch.patch_size: found {}; allowed for ConvNeXt: 1 to 7 (from 8 on timm's class "
                    "dilates the last stage)",
                    arch.patch_size));
  }
  std::int64_t smallest = arch.patch_size;
  for (std::size_t i = 0; i < ConvNextArch::kNumStages; ++i) smallest *= arch.stride(i);
  if (config.image_size < smallest) {
    throw ConfigError(fmt::format("model.image_size: {} is too small for {}, which divides it by {}",
                                  config.image_size, config.name, smallest));
  }
}

std::shared_ptr<Backbone> create_convnext(const config::ModelConfig& config) {
  const ConvNextArch arch = overridden(convnext_archs().at(config.name), config);
  check(config, arch);
  return std::make_shared<ConvNext>(config, arch);
}

}  // namespace

Family convnext_family() {
  return {"ConvNeXt", "arXiv 2201.03545", config::DropRateRule::kLinear, names_of(convnext_archs()),
          create_convnext};
}

}  // namespace cosub::model
