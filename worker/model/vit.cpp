#include "worker/model/vit.h"

#include <fmt/format.h>

#include <cmath>

#include "common/error.h"
#include "worker/model/layers.h"

namespace cosub::model {
namespace {

class PatchEmbed : public torch::nn::Module {
 public:
  PatchEmbed(std::int64_t channels, const VitArch& arch) {
    proj = register_module(
        "proj", std::make_shared<Conv2d>(
                    channels, arch.embed_dim,
                    Conv2d::Options{.kernel = arch.patch_size, .stride = arch.patch_size, .bias = true}));
  }
  /// [N, C, H, W] -> [N, patches, embed_dim]
  at::Tensor forward(const at::Tensor& images) const {
    return proj->forward(images).flatten(2).transpose(1, 2);
  }

  std::shared_ptr<Conv2d> proj;
};

class Attention : public torch::nn::Module {
 public:
  Attention(std::int64_t dim, std::int64_t num_heads) : num_heads_(num_heads) {
    qkv_ = register_module("qkv", std::make_shared<Linear>(dim, 3 * dim));
    proj_ = register_module("proj", std::make_shared<Linear>(dim, dim));
  }

  at::Tensor forward(const at::Tensor& x) const {  // [N, L, D] -> [N, L, D]
    const std::int64_t rows = x.size(0), length = x.size(1), dim = x.size(2);
    const at::Tensor qkv =
        qkv_->forward(x).reshape({rows, length, 3, num_heads_, dim / num_heads_}).permute({2, 0, 3, 1, 4});
    const at::Tensor heads = at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]);
    return proj_->forward(heads.transpose(1, 2).reshape({rows, length, dim}));
  }

 private:
  std::int64_t num_heads_;
  std::shared_ptr<Linear> qkv_, proj_;
};

class Mlp : public torch::nn::Module {
 public:
  Mlp(std::int64_t dim, std::int64_t hidden) {
    fc1_ = register_module("fc1", std::make_shared<Linear>(dim, hidden));
    fc2_ = register_module("fc2", std::make_shared<Linear>(hidden, dim));
  }
  at::Tensor forward(const at::Tensor& x) const { return fc2_->forward(at::gelu(fc1_->forward(x))); }

 private:
  std::shared_ptr<Linear> fc1_, fc2_;
};

/// LayerScale (arXiv 2103.17239): a learned factor per channel at the end of a branch.
class LayerScale : public torch::nn::Module {
 public:
  LayerScale(std::int64_t dim, double init_value) {
    gamma_ = register_parameter("gamma", at::full({dim}, init_value));
  }
  at::Tensor forward(const at::Tensor& x) const { return x * gamma_; }

 private:
  at::Tensor gamma_;
};

class Block : public torch::nn::Module {
 public:
  Block(const VitArch& arch, std::int64_t index, ResidualSeam& seam) : seam_(seam) {
    const std::string name = fmt::format("blocks.{}.", index);
    attn_branch_ = seam.declare({name + "attn", index, 0.0});
    mlp_branch_ = seam.declare({name + "mlp", index, 0.0});
    const std::int64_t dim = arch.embed_dim;
    norm1_ = register_module("norm1", std::make_shared<LayerNorm>(dim));
    attn_ = register_module("attn", std::make_shared<Attention>(dim, arch.num_heads));
    if (arch.init_values != 0.0)
      ls1_ = register_module("ls1", std::make_shared<LayerScale>(dim, arch.init_values));
    norm2_ = register_module("norm2", std::make_shared<LayerNorm>(dim));
    const auto hidden = static_cast<std::int64_t>(static_cast<double>(dim) * arch.mlp_ratio);
    mlp_ = register_module("mlp", std::make_shared<Mlp>(dim, hidden));
    if (arch.init_values != 0.0)
      ls2_ = register_module("ls2", std::make_shared<LayerScale>(dim, arch.init_values));
  }

  at::Tensor forward(const at::Tensor& x) const {
    const at::Tensor attended = seam_.apply(attn_branch_, x, [this](const at::Tensor& rows) {
      return scale(ls1_, attn_->forward(norm1_->forward(rows)));
    });
    return seam_.apply(mlp_branch_, attended, [this](const at::Tensor& rows) {
      return scale(ls2_, mlp_->forward(norm2_->forward(rows)));
    });
  }

 private:
  static at::Tensor scale(const std::shared_ptr<LayerScale>& layer, const at::Tensor& x) {
    return layer ? layer->forward(x) : x;
  }

  ResidualSeam& seam_;
  std::int64_t attn_branch_, mlp_branch_;
  std::shared_ptr<LayerNorm> norm1_, norm2_;
  std::shared_ptr<Attention> attn_;
  std::shared_ptr<LayerScale> ls1_, ls2_;
  std::shared_ptr<Mlp> mlp_;
};

class VisionTransformer : public Backbone {
 public:
  VisionTransformer(config::ModelConfig config, const VitArch& arch)
      : Backbone(std::move(config)), arch_(arch) {
    const std::int64_t side = config_.image_size / arch.patch_size, dim = arch.embed_dim;
    cls_token_ = register_parameter("cls_token", at::zeros({1, 1, dim}));
    pos_embed_ = register_parameter("pos_embed", at::zeros({1, side * side + prefix_tokens(), dim}));
    patch_embed_ = register_module("patch_embed", std::make_shared<PatchEmbed>(config_.channels, arch));
    const auto blocks = register_module("blocks", std::make_shared<Group>());
    for (std::int64_t i = 0; i < arch.depth; ++i) {
      blocks_.push_back(blocks->register_module(std::to_string(i), std::make_shared<Block>(arch, i, seam_)));
    }
    norm_ = register_module("norm", std::make_shared<LayerNorm>(dim));
    head_ = register_module("head", std::make_shared<Linear>(dim, config_.classes));
  }

  void init(std::uint64_t stream) {
    for (auto& item : named_parameters()) {
      const std::string& name = item.key();
      const bool linear_weight = item.value().dim() == 2;
      if (linear_weight || name == "pos_embed") init_normal(item.value(), 0.02, stream, name);
      if (name == "cls_token") init_normal(item.value(), 1e-6, stream, name);
    }
    init_torch_default(patch_embed_->proj->weight, patch_embed_->proj->bias, stream, "patch_embed.proj");
  }

  at::Tensor forward(const at::Tensor& images) override { return head_->forward(forward_features(images)); }

  at::Tensor forward_features(const at::Tensor& images) override {
    at::Tensor x = embed(seam_.start(images));
    for (const auto& block : blocks_) x = block->forward(x);
    return norm_->forward(seam_.finish(x).select(1, 0));
  }

  std::vector<std::string> no_weight_decay() const override { return {"pos_embed", "cls_token"}; }
  std::string classifier() const override { return "head"; }
  PositionGrid position_grid() const override {
    return {prefix_tokens(), config_.image_size / arch_.patch_size};
  }
  nlohmann::json timm_config() const override;

 private:
  std::int64_t prefix_tokens() const { return arch_.no_embed_class ? 0 : 1; }

  at::Tensor embed(const at::Tensor& images) const {  // [N, C, S, S] -> [N, 1 + patches, D]
    const at::Tensor patches = patch_embed_->forward(images);
    const at::Tensor class_token = cls_token_.expand({images.size(0), -1, -1});
    if (arch_.no_embed_class) return at::cat({class_token, patches + pos_embed_}, 1);
    return at::cat({class_token, patches}, 1) + pos_embed_;
  }

  VitArch arch_;
  at::Tensor cls_token_, pos_embed_;
  std::shared_ptr<PatchEmbed> patch_embed_;
  std::vector<std::shared_ptr<Block>> blocks_;
  std::shared_ptr<LayerNorm> norm_;
  std::shared_ptr<Linear> head_;
};

nlohmann::json VisionTransformer::timm_config() const {
  const std::int64_t size = config_.image_size;
  nlohmann::json args = {{"in_chans", config_.channels},
                         {"img_size", size},
                         {"patch_size", arch_.patch_size},
                         {"embed_dim", arch_.embed_dim},
                         {"depth", arch_.depth},
                         {"num_heads", arch_.num_heads},
                         {"mlp_ratio", arch_.mlp_ratio},
                         {"init_values", arch_.init_values},
                         {"no_embed_class", arch_.no_embed_class}};
  return {{"architecture", config_.name},
          {"num_classes", config_.classes},
          {"num_features", arch_.embed_dim},
          {"global_pool", "token"},
          {"model_args", std::move(args)},
          {"pretrained_cfg",
           {{"num_classes", config_.classes},
            {"input_size", {config_.channels, size, size}},
            {"fixed_input_size", true},
            {"interpolation", "bicubic"},
            {"crop_pct", 1.0},
            {"first_conv", "patch_embed.proj"},
            {"classifier", "head"}}}};
}

VitArch deit3(std::int64_t patch_size, std::int64_t embed_dim, std::int64_t depth, std::int64_t num_heads) {
  return {patch_size, embed_dim, depth, num_heads, 4.0, 1e-6, true};
}

VitArch plain(std::int64_t embed_dim, std::int64_t num_heads) {
  return {16, embed_dim, 12, num_heads, 4.0, 0.0, false};
}

void check(const config::ModelConfig& config, const VitArch& arch) {
  if (config.arch.layers || config.arch.channels || config.arch.stem_type || config.arch.stem_width) {
    throw ConfigError(
        fmt::format("model.arch: {} is a vision transformer; it knows patch_size, embed_dim, depth, "
                    "num_heads, mlp_ratio and "
                    "init_values, not layers, channels, stem_type or stem_width",
                    config.name));
  }
  if (arch.patch_size < 1 || arch.embed_dim < 1 || arch.depth < 1 || arch.num_heads < 1 ||
      arch.mlp_ratio <= 0.0) {
    throw ConfigError(fmt::format("model.arch: {}: sizes must be positive", config.name));
  }
  if (config.image_size % arch.patch_size != 0) {
    throw ConfigError(
        fmt::format("model.image_size: {} is not a multiple of patch_size {}; nearest: {} or {}",
                    config.image_size, arch.patch_size, config.image_size / arch.patch_size * arch.patch_size,
                    (config.image_size / arch.patch_size + 1) * arch.patch_size));
  }
  if (arch.embed_dim % arch.num_heads != 0) {
    throw ConfigError(fmt::format("model.arch.embed_dim: {} is not a multiple of num_heads {}",
                                  arch.embed_dim, arch.num_heads));
  }
}

}  // namespace

const std::map<std::string, VitArch>& vit_table() {
  static const std::map<std::string, VitArch> table = {
      {"deit3_small_patch16_224", deit3(16, 384, 12, 6)},
      {"deit3_medium_patch16_224", deit3(16, 512, 12, 8)},
      {"deit3_base_patch16_224", deit3(16, 768, 12, 12)},
      {"deit3_large_patch16_224", deit3(16, 1024, 24, 16)},
      {"deit3_huge_patch14_224", deit3(14, 1280, 32, 16)},
      {"deit_tiny_patch16_224", plain(192, 3)},
      {"deit_small_patch16_224", plain(384, 6)},
      {"deit_base_patch16_224", plain(768, 12)},
      {"vit_tiny_patch16_224", plain(192, 3)},
      {"vit_small_patch16_224", plain(384, 6)},
      {"vit_base_patch16_224", plain(768, 12)},
  };
  return table;
}

std::shared_ptr<Backbone> create_vit(const config::ModelConfig& config, std::uint64_t stream) {
  VitArch arch = vit_table().at(config.name);
  const config::ArchConfig& given = config.arch;
  arch.patch_size = given.patch_size.value_or(arch.patch_size);
  arch.embed_dim = given.embed_dim.value_or(arch.embed_dim);
  arch.depth = given.depth.value_or(arch.depth);
  arch.num_heads = given.num_heads.value_or(arch.num_heads);
  arch.mlp_ratio = given.mlp_ratio.value_or(arch.mlp_ratio);
  arch.init_values = given.init_values.value_or(arch.init_values);
  check(config, arch);
  auto model = std::make_shared<VisionTransformer>(config, arch);
  model->init(stream);
  return model;
}

}  // namespace cosub::model
