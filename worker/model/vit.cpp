#include "worker/model/arch.h"
#include "worker/model/families.h"
#include "worker/model/resample.h"
#include "worker/model/transformer_block.h"

namespace cosub::model {
namespace {

/// timm's VisionTransformer with global_pool='token'.
struct VitArch {
  std::int64_t patch_size = 16, embed_dim = 192, depth = 12, num_heads = 3;
  double mlp_ratio = 4.0;
  double init_values = 0.0;     // LayerScale; 0: none
  bool no_embed_class = false;  // true: the class token gets no position embedding

  template <class Row, class Visit>
  static void each_key(Row& row, const Visit& visit) {
    visit("patch_size", row.patch_size);
    visit("embed_dim", row.embed_dim);
    visit("depth", row.depth);
    visit("num_heads", row.num_heads);
    visit("mlp_ratio", row.mlp_ratio);
    visit("init_values", row.init_values);
    visit("no_embed_class", row.no_embed_class);
  }
};

class PatchEmbed : public torch::nn::Module {
 public:
  PatchEmbed(std::int64_t channels, const VitArch& arch) {
    const Conv2d::Options options{.kernel = arch.patch_size, .stride = arch.patch_size, .bias = true};
    proj = add_layer<Conv2d>(*this, "proj", channels, arch.embed_dim, options);
  }
  /// [N, C, H, W] -> [N, patches, embed_dim]
  at::Tensor forward(const at::Tensor& images) const {
    return proj->forward(images).flatten(2).transpose(1, 2);
  }

  std::shared_ptr<Conv2d> proj;
};

class VisionTransformer : public Backbone {
 public:
  VisionTransformer(config::ModelConfig config, const VitArch& arch)
      : Backbone(std::move(config)), arch_(arch), side_(config_.image_size / arch.patch_size) {
    const std::int64_t dim = arch.embed_dim;
    cls_token_ = register_parameter("cls_token", at::zeros({1, 1, dim}));
    pos_embed_ = register_parameter("pos_embed", at::zeros({1, side_ * side_ + prefix_tokens(), dim}));
    patch_embed_ = add_layer<PatchEmbed>(*this, "patch_embed", config_.channels, arch);
    const TransformerBlock::Shape shape{dim, arch.num_heads, arch.mlp_ratio, arch.init_values};
    torch::nn::Module& blocks = group(*this, "blocks");
    for (std::int64_t i = 0; i < arch.depth; ++i) {
      blocks_.push_back(add_layer<TransformerBlock>(blocks, std::to_string(i), shape,
                                                    fmt::format("blocks.{}", i), i, seam_));
    }
    norm_ = add_layer<LayerNorm>(*this, "norm", dim);
    add_classifier("head", dim);
  }

  void init(std::uint64_t stream) override {
    for (auto& item : named_parameters()) {
      const std::string& name = item.key();
      const bool linear_weight = item.value().dim() == 2;
      if (linear_weight || name == "pos_embed") init_normal(item.value(), 0.02, stream, name);
      if (name == "cls_token") init_normal(item.value(), 1e-6, stream, name);
    }
    init_torch_default(patch_embed_->proj->weight, patch_embed_->proj->bias, stream, "patch_embed.proj");
  }

  at::Tensor forward_features(const at::Tensor& images) override {
    const at::Tensor class_token = class_token_after(blocks_, embed(seam_.start(images)));
    return norm_->forward(seam_.finish(class_token).select(1, 0));
  }

  std::vector<std::string> no_weight_decay() const override { return {"pos_embed", "cls_token"}; }
  std::vector<LayerPattern> layer_patterns() const override {
    return {{"cls_token|pos_embed|patch_embed", 0}, {R"(blocks\.(\d+))", 1}, {"norm", 1, kWithPrevious}};
  }
  void resample(State& state) const override {
    const auto found = state.find("pos_embed");
    if (found != state.end()) {
      found->second = resample_position_embedding(found->second, prefix_tokens(), side_);
    }
  }
  BlockLayout block_layout() const override { return {"depth", {{"blocks.", arch_.depth}}, ""}; }
  TimmClass timm_class() const override {
    nlohmann::json args = timm_args(arch_);
    args["img_size"] = config_.image_size;
    return {std::move(args), "token", "patch_embed.proj"};
  }

 private:
  std::int64_t prefix_tokens() const { return arch_.no_embed_class ? 0 : 1; }

  at::Tensor embed(const at::Tensor& images) const {  // [N, C, S, S] -> [N, 1 + patches, D]
    const at::Tensor patches = patch_embed_->forward(images);
    const at::Tensor class_token = cls_token_.expand({images.size(0), -1, -1});
    if (arch_.no_embed_class) return at::cat({class_token, patches + pos_embed_}, 1);
    return at::cat({class_token, patches}, 1) + pos_embed_;
  }

  VitArch arch_;
  std::int64_t side_;
  at::Tensor cls_token_, pos_embed_;
  std::shared_ptr<PatchEmbed> patch_embed_;
  TransformerBlocks blocks_;
  std::shared_ptr<LayerNorm> norm_;
};

VitArch deit3(std::int64_t patch_size, std::int64_t embed_dim, std::int64_t depth, std::int64_t num_heads) {
  return {patch_size, embed_dim, depth, num_heads, 4.0, 1e-6, true};
}

VitArch plain(std::int64_t patch_size, std::int64_t embed_dim, std::int64_t depth, std::int64_t num_heads) {
  return {patch_size, embed_dim, depth, num_heads, 4.0, 0.0, false};
}

const std::map<std::string, VitArch>& vit_archs() {
  static const std::map<std::string, VitArch> table = {
      {"deit3_small_patch16_224", deit3(16, 384, 12, 6)},
      {"deit3_medium_patch16_224", deit3(16, 512, 12, 8)},
      {"deit3_base_patch16_224", deit3(16, 768, 12, 12)},
      {"deit3_large_patch16_224", deit3(16, 1024, 24, 16)},
      {"deit3_huge_patch14_224", deit3(14, 1280, 32, 16)},
      {"deit_tiny_patch16_224", plain(16, 192, 12, 3)},
      {"deit_small_patch16_224", plain(16, 384, 12, 6)},
      {"deit_base_patch16_224", plain(16, 768, 12, 12)},
      {"vit_tiny_patch16_224", plain(16, 192, 12, 3)},
      {"vit_small_patch16_224", plain(16, 384, 12, 6)},
      {"vit_base_patch16_224", plain(16, 768, 12, 12)},
      {"vit_base_patch8_224", plain(8, 768, 12, 12)},
      {"vit_large_patch16_224", plain(16, 1024, 24, 16)},
  };
  return table;
}

std::shared_ptr<Backbone> create_vit(const config::ModelConfig& config) {
  const VitArch arch = overridden(vit_archs().at(config.name), config);
  check_image_multiple(config, arch.patch_size, "patch_size");
  check_heads(config, arch.embed_dim, arch.num_heads);
  return std::make_shared<VisionTransformer>(config, arch);
}

}  // namespace

Family vit_family() {
  return {"ViT", "arXiv 2010.11929 (ViT), 2012.12877 (DeiT), 2204.07118 (DeiT III)",
          config::DropRateRule::kUniform, names_of(vit_archs()), create_vit};
}

}  // namespace cosub::model
