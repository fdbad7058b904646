#include <cmath>
#include <numbers>

#include "worker/model/arch.h"
#include "worker/model/constant.h"
#include "worker/model/families.h"
#include "worker/model/layers.h"
#include "worker/model/self_attention.h"

namespace cosub::model {
namespace {

/// timm's Xcit with global_pool='token' and qkv_bias.
struct XcitArch {
  std::int64_t patch_size = 16, embed_dim = 192, depth = 12, num_heads = 4;
  double mlp_ratio = 4.0;
  double eta = 1.0;         // LayerScale's initial value
  bool tokens_norm = true;  // class attention normalises all tokens, not the class token alone
  std::int64_t cls_attn_layers = 2;

  template <class Row, class Visit>
  static void each_key(Row& row, const Visit& visit) {
    visit("patch_size", row.patch_size);
    visit("embed_dim", row.embed_dim);
    visit("depth", row.depth);
    visit("num_heads", row.num_heads);
    visit("mlp_ratio", row.mlp_ratio);
    visit("eta", row.eta);
    visit("tokens_norm", row.tokens_norm);
    visit("cls_attn_layers", row.cls_attn_layers);
  }
  std::int64_t hidden() const {
    return static_cast<std::int64_t>(static_cast<double>(embed_dim) * mlp_ratio);
  }
};

/// Three or four 3x3 convolutions of stride 2, each with a norm, GELU between: [N, C, S, S] -> [N, D, S/p,
/// S/p].
class ConvPatchEmbed : public torch::nn::Module {
 public:
  ConvPatchEmbed(std::int64_t channels, const XcitArch& arch, BatchStatistics& statistics) {
    torch::nn::Module& proj = group(*this, "proj");
    std::int64_t in = channels, out = arch.embed_dim / (arch.patch_size / 2);
    for (std::int64_t i = 0; out <= arch.embed_dim; ++i, in = out, out *= 2) {
      layers_.push_back(add_conv_norm(group(proj, std::to_string(2 * i)), "0", "1", in, out,
                                      {.kernel = 3, .stride = 2, .padding = 1}, statistics));
    }
  }

  at::Tensor forward(const at::Tensor& images) const {
    at::Tensor x = layers_.front().conv->forward(images).contiguous(at::MemoryFormat::ChannelsLast);
    x = layers_.front().norm->forward(x);
    for (std::size_t i = 1; i < layers_.size(); ++i) x = layers_[i].forward(at::gelu(x));
    return x;
  }

 private:
  std::vector<ConvNorm> layers_;
};

/// Sines and cosines of the patch's row and column (arXiv 1706.03762, over the grid normalised to 2 pi),
/// projected.
class FourierPositions : public torch::nn::Module {
 public:
  FourierPositions(std::int64_t dim, std::int64_t side) : features_(features(side)) {
    projection_ = add_layer<Pointwise>(*this, "token_projection", 2 * kHidden, dim);
  }
  at::Tensor forward() {  // [1, side * side, dim]
    return projection_->forward(features_.beside(projection_->weight)).unsqueeze(0);
  }

 private:
  static constexpr std::int64_t kHidden = 32;

  static at::Tensor features(std::int64_t side) {  // [side * side, 2 * kHidden], in float32 as published
    const double last = static_cast<double>(side) + 1e-6;
    const at::Tensor angle = at::arange(1, side + 1, at::kFloat) / last * (2.0 * std::numbers::pi);
    const at::Tensor pair = at::arange(kHidden / 2, at::kFloat) * 2.0 / kHidden;
    const at::Tensor phase = angle.unsqueeze(1) / at::pow(10000.0, pair);          // [side, kHidden / 2]
    const at::Tensor waves = at::stack({phase.sin(), phase.cos()}, 2).flatten(1);  // [side, kHidden]
    const at::Tensor rows = waves.unsqueeze(1).expand({side, side, kHidden});
    const at::Tensor columns = waves.unsqueeze(0).expand({side, side, kHidden});
    return at::cat({rows, columns}, 2).flatten(0, 1);
  }

  Constant features_;
  std::shared_ptr<Pointwise> projection_;
};

at::Tensor unit_length(const at::Tensor& x) {
  return x / x.norm(2, {-1}, /*keepdim=*/true).clamp_min(1e-12);
}

/// Attention between channels: the map is [D/heads, D/heads], so that its cost grows linearly with the
/// tokens.
class CrossCovarianceAttention : public torch::nn::Module {
 public:
  CrossCovarianceAttention(std::int64_t dim, std::int64_t num_heads) : num_heads_(num_heads) {
    temperature = register_parameter("temperature", at::ones({num_heads, 1, 1}));
    qkv_ = add_layer<Linear>(*this, "qkv", dim, 3 * dim);
    proj_ = add_layer<Linear>(*this, "proj", dim, dim);
  }

  at::Tensor forward(const at::Tensor& x) const {  // [N, L, D] -> [N, L, D]
    const std::int64_t rows = x.size(0), length = x.size(1), dim = x.size(2);
    const at::Tensor qkv =
        qkv_->forward(x).reshape({rows, length, 3, num_heads_, dim / num_heads_}).permute({2, 0, 3, 4, 1});
    const at::Tensor map =
        at::matmul(unit_length(qkv[0]), unit_length(qkv[1]).transpose(-2, -1)) * temperature;
    const at::Tensor heads = at::matmul(map.softmax(-1), qkv[2]);  // [N, heads, D/heads, L]
    return proj_->forward(heads.permute({0, 3, 1, 2}).reshape({rows, length, dim}));
  }

  at::Tensor temperature;

 private:
  std::int64_t num_heads_;
  std::shared_ptr<Linear> qkv_, proj_;
};

/// Local patch interaction: two depthwise 3x3 convolutions over the grid of tokens.
class LocalPatchInteraction : public torch::nn::Module {
 public:
  LocalPatchInteraction(std::int64_t dim, std::int64_t side, BatchStatistics& statistics) : side_(side) {
    const Conv2d::Options depthwise{.kernel = 3, .padding = 1, .groups = dim, .bias = true};
    conv1_ = add_layer<Conv2d>(*this, "conv1", dim, dim, depthwise);
    bn_ = add_layer<BatchNorm2d>(*this, "bn", dim, statistics);
    conv2_ = add_layer<Conv2d>(*this, "conv2", dim, dim, depthwise);
  }

  at::Tensor forward(const at::Tensor& x) const {  // [N, L, D] -> [N, L, D]
    const at::Tensor grid = x.reshape({x.size(0), side_, side_, x.size(2)}).permute({0, 3, 1, 2});
    const at::Tensor hidden = bn_->forward(at::gelu(conv1_->forward(grid)));
    return conv2_->forward(hidden).permute({0, 2, 3, 1}).reshape(x.sizes());
  }

 private:
  std::int64_t side_;
  std::shared_ptr<Conv2d> conv1_, conv2_;
  std::shared_ptr<BatchNorm2d> bn_;
};

class XcitBlock : public torch::nn::Module {
 public:
  XcitBlock(const XcitArch& arch, std::int64_t side, std::int64_t index, ResidualSeam& seam,
            BatchStatistics& statistics)
      : seam_(seam) {
    const std::int64_t dim = arch.embed_dim;
    const std::string name = fmt::format("blocks.{}.", index);
    attn_branch_ = seam.declare({name + "attn", index, 0.0, {name + "gamma1"}});
    local_branch_ = seam.declare({name + "local_mp", index, 0.0, {name + "gamma3"}});
    mlp_branch_ = seam.declare({name + "mlp", index, 0.0, {name + "gamma2"}});
    norm1_ = add_layer<LayerNorm>(*this, "norm1", dim);
    attn_ = add_layer<CrossCovarianceAttention>(*this, "attn", dim, arch.num_heads);
    norm3_ = add_layer<LayerNorm>(*this, "norm3", dim);
    local_ = add_layer<LocalPatchInteraction>(*this, "local_mp", dim, side, statistics);
    norm2_ = add_layer<LayerNorm>(*this, "norm2", dim);
    mlp_ = add_layer<Mlp>(*this, "mlp", dim, arch.hidden());
    gamma1_ = register_parameter("gamma1", at::full({dim}, arch.eta));
    gamma3_ = register_parameter("gamma3", at::full({dim}, arch.eta));
    gamma2_ = register_parameter("gamma2", at::full({dim}, arch.eta));
  }

  at::Tensor forward(at::Tensor tokens) const {
    const auto attend = [this](const at::Tensor& normed) { return attn_->forward(normed); };
    const auto mix = [this](const at::Tensor& normed) { return local_->forward(normed); };
    const auto expand = [this](const at::Tensor& normed) { return mlp_->forward(normed); };
    at::Tensor attended = seam_.apply(attn_branch_, std::move(tokens), {attend, gamma1_, norm1_->norm()});
    at::Tensor mixed = seam_.apply(local_branch_, std::move(attended), {mix, gamma3_, norm3_->norm()});
    return seam_.apply(mlp_branch_, std::move(mixed), {expand, gamma2_, norm2_->norm()});
  }

 private:
  ResidualSeam& seam_;
  std::int64_t attn_branch_, local_branch_, mlp_branch_;
  std::shared_ptr<LayerNorm> norm1_, norm2_, norm3_;
  std::shared_ptr<CrossCovarianceAttention> attn_;
  std::shared_ptr<LocalPatchInteraction> local_;
  std::shared_ptr<Mlp> mlp_;
  at::Tensor gamma1_, gamma2_, gamma3_;
};

/// The class token's attention over all tokens (arXiv 2103.17239): [N, 1 + L, D] -> [N, 1, D].
class ClassAttention : public torch::nn::Module {
 public:
  ClassAttention(std::int64_t dim, std::int64_t num_heads) : num_heads_(num_heads) {
    q_ = add_layer<Linear>(*this, "q", dim, dim);
    k_ = add_layer<Linear>(*this, "k", dim, dim);
    v_ = add_layer<Linear>(*this, "v", dim, dim);
    proj_ = add_layer<Linear>(*this, "proj", dim, dim);
  }

  at::Tensor forward(const at::Tensor& x) const {
    const at::Tensor q = q_->forward(x.narrow(1, 0, 1));
    return proj_->forward(attention_of_queries(q, k_->forward(x), v_->forward(x), num_heads_));
  }

 private:
  std::int64_t num_heads_;
  std::shared_ptr<Linear> q_, k_, v_, proj_;
};

at::Tensor others(const at::Tensor& tokens) {
  return tokens.narrow(1, 1, tokens.size(1) - 1);
}

/// Class attention and an MLP on the class token. The other tokens go through both sums as they are (so the
/// second one doubles them), which is what the published weights were trained with.
class ClassAttentionBlock : public torch::nn::Module {
 public:
  ClassAttentionBlock(const XcitArch& arch, std::int64_t index, ResidualSeam& seam)
      : seam_(seam), tokens_norm_(arch.tokens_norm) {
    const std::int64_t dim = arch.embed_dim;
    const std::string name = fmt::format("cls_attn_blocks.{}.", index);
    attn_branch_ = seam.declare({name + "attn", kNeverDrops, 0.0, {name + "gamma1"}});
    mlp_branch_ = seam.declare({name + "mlp", kNeverDrops, 0.0, {name + "gamma2"}});
    norm1_ = add_layer<LayerNorm>(*this, "norm1", dim);
    attn_ = add_layer<ClassAttention>(*this, "attn", dim, arch.num_heads);
    norm2_ = add_layer<LayerNorm>(*this, "norm2", dim);
    mlp_ = add_layer<Mlp>(*this, "mlp", dim, arch.hidden());
    gamma1_ = register_parameter("gamma1", at::full({dim}, arch.eta));
    gamma2_ = register_parameter("gamma2", at::full({dim}, arch.eta));
  }

  at::Tensor forward(const at::Tensor& tokens) const {
    at::Tensor x = seam_.apply(attn_branch_, tokens, [this](const at::Tensor& rows) {
      const at::Tensor normed = norm1_->forward(rows);
      return gamma1_ * at::cat({attn_->forward(normed), others(normed)}, 1);
    });
    x = tokens_norm_ ? norm2_->forward(x) : at::cat({norm2_->forward(x.narrow(1, 0, 1)), others(x)}, 1);
    return seam_.apply(mlp_branch_, x, [this](const at::Tensor& rows) {
      return at::cat({gamma2_ * mlp_->forward(rows.narrow(1, 0, 1)), others(rows)}, 1);
    });
  }

 private:
  ResidualSeam& seam_;
  bool tokens_norm_;
  std::int64_t attn_branch_, mlp_branch_;
  std::shared_ptr<LayerNorm> norm1_, norm2_;
  std::shared_ptr<ClassAttention> attn_;
  std::shared_ptr<Mlp> mlp_;
  at::Tensor gamma1_, gamma2_;
};

class Xcit : public Backbone {
 public:
  Xcit(config::ModelConfig config, const XcitArch& arch) : Backbone(std::move(config)), arch_(arch) {
    const std::int64_t dim = arch.embed_dim, side = config_.image_size / arch.patch_size;
    patch_embed_ = add_layer<ConvPatchEmbed>(*this, "patch_embed", config_.channels, arch, batch_statistics_);
    cls_token_ = register_parameter("cls_token", at::zeros({1, 1, dim}));
    pos_embed_ = add_layer<FourierPositions>(*this, "pos_embed", dim, side);
    torch::nn::Module& blocks = group(*this, "blocks");
    for (std::int64_t i = 0; i < arch.depth; ++i) {
      blocks_.push_back(
          add_layer<XcitBlock>(blocks, std::to_string(i), arch, side, i, seam_, batch_statistics_));
    }
    torch::nn::Module& class_blocks = group(*this, "cls_attn_blocks");
    for (std::int64_t i = 0; i < arch.cls_attn_layers; ++i) {
      class_blocks_.push_back(
          add_layer<ClassAttentionBlock>(class_blocks, std::to_string(i), arch, i, seam_));
    }
    norm_ = add_layer<LayerNorm>(*this, "norm", dim);
    add_classifier("head", dim);
  }

  void init(std::uint64_t stream) override {
    init_normal(cls_token_, 0.02, stream, "cls_token");
    for (const auto& module : named_modules("", /*include_self=*/false)) {
      torch::nn::Module* const layer = module.value().get();
      if (auto* const linear = dynamic_cast<Linear*>(layer))
        init_normal(linear->weight, 0.02, stream, module.key() + ".weight");
      if (auto* const conv = dynamic_cast<Conv2d*>(layer))
        init_torch_default(conv->weight, conv->bias, stream, module.key());
      if (auto* const pointwise = dynamic_cast<Pointwise*>(layer))
        init_torch_default(pointwise->weight, pointwise->bias, stream, module.key());
    }
  }

  at::Tensor forward_features(const at::Tensor& images) override {
    at::Tensor x = patch_embed_->forward(seam_.start(images)).permute({0, 2, 3, 1}).flatten(1, 2);
    x = x + pos_embed_->forward();
    for (const auto& block : blocks_) x = block->forward(std::move(x));
    x = seam_.finish(x);
    x = at::cat({cls_token_.expand({x.size(0), -1, -1}), x}, 1);
    for (const auto& block : class_blocks_) x = block->forward(x);
    return norm_->forward(x.select(1, 0));
  }

  std::vector<std::string> no_weight_decay() const override {
    return {"pos_embed.token_projection.weight", "cls_token"};
  }
  std::vector<LayerPattern> layer_patterns() const override {
    return {{"cls_token|pos_embed|patch_embed", 0},
            {R"(blocks\.(\d+))", 1},
            {R"(cls_attn_blocks\.(\d+))", 2},
            {"norm", 2, kWithPrevious}};
  }
  BlockLayout block_layout() const override { return {"depth", {{"blocks.", arch_.depth}}, ""}; }
  TimmClass timm_class() const override {
    nlohmann::json args = timm_args(arch_);
    args["img_size"] = config_.image_size;
    return {std::move(args), "token", "patch_embed.proj.0.0"};
  }

 private:
  XcitArch arch_;
  std::shared_ptr<ConvPatchEmbed> patch_embed_;
  at::Tensor cls_token_;
  std::shared_ptr<FourierPositions> pos_embed_;
  std::vector<std::shared_ptr<XcitBlock>> blocks_;
  std::vector<std::shared_ptr<ClassAttentionBlock>> class_blocks_;
  std::shared_ptr<LayerNorm> norm_;
};

const std::map<std::string, XcitArch>& xcit_archs() {
  static const std::map<std::string, XcitArch> table = {
      {"xcit_nano_12_p16_224", {16, 128, 12, 4, 4.0, 1.0, false}},
      {"xcit_tiny_12_p16_224", {16, 192, 12, 4, 4.0, 1.0, true}},
      {"xcit_tiny_24_p16_224", {16, 192, 24, 4, 4.0, 1e-5, true}},
      {"xcit_small_12_p16_224", {16, 384, 12, 8, 4.0, 1.0, true}},
      {"xcit_small_24_p16_224", {16, 384, 24, 8, 4.0, 1e-5, true}},
      {"xcit_medium_24_p16_224", {16, 512, 24, 8, 4.0, 1e-5, true}},
      {"xcit_large_24_p16_224", {16, 768, 24, 16, 4.0, 1e-5, true}},
      {"xcit_nano_12_p8_224", {8, 128, 12, 4, 4.0, 1.0, false}},
      {"xcit_tiny_12_p8_224", {8, 192, 12, 4, 4.0, 1.0, true}},
      {"xcit_tiny_24_p8_224", {8, 192, 24, 4, 4.0, 1e-5, true}},
      {"xcit_small_12_p8_224", {8, 384, 12, 8, 4.0, 1.0, true}},
      {"xcit_small_24_p8_224", {8, 384, 24, 8, 4.0, 1e-5, true}},
      {"xcit_medium_24_p8_224", {8, 512, 24, 8, 4.0, 1e-5, true}},
      {"xcit_large_24_p8_224", {8, 768, 24, 16, 4.0, 1e-5, true}},
  };
  return table;
}

std::shared_ptr<Backbone> create_xcit(const config::ModelConfig& config) {
  const XcitArch arch = overridden(xcit_archs().at(config.name), config);
  if (arch.patch_size != 8 && arch.patch_size != 16) {
    throw ConfigError(
        fmt::format("model.arch.patch_size: found {}; XCiT's stem halves the image three or four times: "
                    "allowed: 8, 16",
                    arch.patch_size));
  }
  check_image_multiple(config, arch.patch_size, "patch_size");
  check_heads(config, arch.embed_dim, arch.num_heads);
  if (arch.embed_dim % (arch.patch_size / 2) != 0) {
    throw ConfigError(
        fmt::format("model.arch.embed_dim: {} is not a multiple of {}, by which the stem's first "
                    "convolution divides it",
                    arch.embed_dim, arch.patch_size / 2));
  }
  return std::make_shared<Xcit>(config, arch);
}

}  // namespace

Family xcit_family() {
  return {"XCiT", "arXiv 2106.09681", config::DropRateRule::kUniform, names_of(xcit_archs()), create_xcit};
}

}  // namespace cosub::model
