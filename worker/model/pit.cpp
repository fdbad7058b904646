#include "worker/model/arch.h"
#include "worker/model/families.h"
#include "worker/model/resample.h"
#include "worker/model/transformer_block.h"

namespace cosub::model {
namespace {

/// timm's PoolingVisionTransformer with global_pool='token', not distilled.
struct PitArch {
  static constexpr std::int64_t kNumStages = 3;
  std::int64_t patch_size = 16, stride = 8;
  std::vector<std::int64_t> base_dims, depth, heads;  // by stage
  double mlp_ratio = 4.0;

  template <class Row, class Visit>
  static void each_key(Row& row, const Visit& visit) {
    visit("patch_size", row.patch_size);
    visit("stride", row.stride);
    visit("base_dims", row.base_dims);
    visit("depth", row.depth);
    visit("heads", row.heads);
    visit("mlp_ratio", row.mlp_ratio);
  }
};

class ConvEmbedding : public torch::nn::Module {
 public:
  ConvEmbedding(std::int64_t channels, std::int64_t dim, const PitArch& arch)
      : conv(add_layer<Conv2d>(
            *this, "conv", channels, dim,
            Conv2d::Options{.kernel = arch.patch_size, .stride = arch.stride, .bias = true})) {}
  std::shared_ptr<Conv2d> conv;
};

/// Halves the grid by a strided depthwise convolution that widens it; the class token by a linear map.
class Pooling : public torch::nn::Module {
 public:
  Pooling(std::int64_t in, std::int64_t out)
      : conv(add_layer<Conv2d>(
            *this, "conv", in, out,
            Conv2d::Options{.kernel = 3, .stride = 2, .padding = 1, .groups = in, .bias = true})),
        fc(add_layer<Linear>(*this, "fc", in, out)) {}
  std::shared_ptr<Conv2d> conv;
  std::shared_ptr<Linear> fc;
};

class PoolingTransformer : public Backbone {
 public:
  PoolingTransformer(config::ModelConfig config, const PitArch& arch)
      : Backbone(std::move(config)),
        arch_(arch),
        side_((config_.image_size - arch.patch_size) / arch.stride + 1) {
    const std::int64_t dim = width(0);
    pos_embed_ = register_parameter("pos_embed", at::zeros({1, dim, side_, side_}));
    cls_token_ = register_parameter("cls_token", at::zeros({1, 1, dim}));
    patch_embed_ = add_layer<ConvEmbedding>(*this, "patch_embed", config_.channels, dim, arch);
    std::int64_t index = 0;
    for (std::size_t i = 0; i < PitArch::kNumStages; ++i) index = add_stage(i, index);
    norm_ = add_layer<LayerNorm>(*this, "norm", width(PitArch::kNumStages - 1));
    add_classifier("head", width(PitArch::kNumStages - 1));
  }

  void init(std::uint64_t stream) override {
    init_normal(pos_embed_, 0.02, stream, "pos_embed");
    init_normal(cls_token_, 0.02, stream, "cls_token");
    for (const auto& module : named_modules("", /*include_self=*/false)) {
      if (auto* const linear = dynamic_cast<Linear*>(module.value().get()))
        init_torch_default(linear->weight, linear->bias, stream, module.key());
      if (auto* const conv = dynamic_cast<Conv2d*>(module.value().get()))
        init_torch_default(conv->weight, conv->bias, stream, module.key());
    }
  }

  at::Tensor forward_features(const at::Tensor& images) override {
    at::Tensor grid = patch_embed_->conv->forward(seam_.start(images)) + pos_embed_;  // [N, C, H, W]
    at::Tensor class_token = cls_token_.expand({grid.size(0), -1, -1});               // [N, 1, C]
    for (const Stage& stage : stages_) {
      if (stage.pool) {
        grid = stage.pool->conv->forward(grid);
        class_token = stage.pool->fc->forward(class_token);
      }
      at::Tensor x = at::cat({class_token, grid.flatten(2).transpose(1, 2)}, 1);
      if (&stage == &stages_.back()) {
        class_token = class_token_after(stage.blocks, x);
        break;
      }
      for (const auto& block : stage.blocks) x = block->forward(std::move(x));
      class_token = x.narrow(1, 0, 1);
      grid = x.narrow(1, 1, x.size(1) - 1).transpose(1, 2).unflatten(2, {grid.size(2), grid.size(3)});
    }
    return norm_->forward(seam_.finish(class_token)).select(1, 0);
  }

  std::vector<std::string> no_weight_decay() const override { return {"pos_embed", "cls_token"}; }
  std::vector<LayerPattern> layer_patterns() const override {
    return {{"cls_token|pos_embed|patch_embed", 0},
            {R"(transformers\.(\d+)\.pool)", 1, 0},
            {R"(transformers\.(\d+)\.blocks\.(\d+))", 1},
            {"norm", 1, kWithPrevious}};
  }
  void resample(State& state) const override {
    const auto found = state.find("pos_embed");
    if (found == state.end() || found->second.dim() != 4 || found->second.sizes() == pos_embed_.sizes())
      return;
    found->second = resample_position_grid(found->second, side_);
  }
  BlockLayout block_layout() const override {
    BlockLayout layout{"depth", {}, ""};
    for (std::size_t i = 0; i < arch_.depth.size(); ++i) {
      layout.stages.push_back({fmt::format("transformers.{}.blocks.", i), arch_.depth[i]});
    }
    return layout;
  }
  TimmClass timm_class() const override {
    nlohmann::json args = timm_args(arch_);
    args["img_size"] = config_.image_size;
    return {std::move(args), "token", "patch_embed.conv"};
  }

 private:
  struct Stage {
    std::shared_ptr<Pooling> pool;
    TransformerBlocks blocks;
  };

  std::int64_t width(std::size_t stage) const { return arch_.base_dims[stage] * arch_.heads[stage]; }

  std::int64_t add_stage(std::size_t number, std::int64_t index) {
    const std::string path = fmt::format("transformers.{}", number);
    torch::nn::Module& stage = group(group(*this, "transformers"), std::to_string(number));
    Stage made;
    if (number > 0) made.pool = add_layer<Pooling>(stage, "pool", width(number - 1), width(number));
    const TransformerBlock::Shape shape{width(number), arch_.heads[number], arch_.mlp_ratio, 0.0};
    for (std::int64_t i = 0; i < arch_.depth[number]; ++i, ++index) {
      made.blocks.push_back(add_layer<TransformerBlock>(group(stage, "blocks"), std::to_string(i), shape,
                                                        fmt::format("{}.blocks.{}", path, i), index, seam_));
    }
    stages_.push_back(std::move(made));
    return index;
  }

  PitArch arch_;
  std::int64_t side_;
  at::Tensor pos_embed_, cls_token_;
  std::shared_ptr<ConvEmbedding> patch_embed_;
  std::vector<Stage> stages_;
  std::shared_ptr<LayerNorm> norm_;
};

const std::map<std::string, PitArch>& pit_archs() {
  static const std::map<std::string, PitArch> table = {
      {"pit_ti_224", {16, 8, {32, 32, 32}, {2, 6, 4}, {2, 4, 8}}},
      {"pit_xs_224", {16, 8, {48, 48, 48}, {2, 6, 4}, {2, 4, 8}}},
      {"pit_s_224", {16, 8, {48, 48, 48}, {2, 6, 4}, {3, 6, 12}}},
      {"pit_b_224", {14, 7, {64, 64, 64}, {3, 6, 4}, {4, 8, 16}}},
  };
  return table;
}

void check(const config::ModelConfig& config, const PitArch& arch) {
  check_per_stage(config, "base_dims", arch.base_dims, PitArch::kNumStages);
  check_per_stage(config, "depth", arch.depth, PitArch::kNumStages);
  check_per_stage(config, "heads", arch.heads, PitArch::kNumStages);
  for (std::size_t i = 1; i < PitArch::kNumStages; ++i) {
    const std::int64_t before = arch.base_dims[i - 1] * arch.heads[i - 1],
                       after = arch.base_dims[i] * arch.heads[i];
    if (after % before == 0) continue;
    throw ConfigError(
        fmt::format("model.arch: {}: the width of stage {} (base_dims x heads = {}) is not a multiple of the "
                    "one before ({})",
                    config.name, i, after, before));
  }
  if (config.image_size < arch.patch_size) {
    throw ConfigError(fmt::format("model.image_size: {} is less than one patch (patch_size {})",
                                  config.image_size, arch.patch_size));
  }
}

std::shared_ptr<Backbone> create_pit(const config::ModelConfig& config) {
  const PitArch arch = overridden(pit_archs().at(config.name), config);
  check(config, arch);
  return std::make_shared<PoolingTransformer>(config, arch);
}

}  // namespace

Family pit_family() {
  return {"PiT", "arXiv 2103.16302", config::DropRateRule::kUniform, names_of(pit_archs()), create_pit};
}

}  // namespace cosub::model
