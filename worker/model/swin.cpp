#include "worker/model/arch.h"
#include "worker/model/constant.h"
#include "worker/model/families.h"
#include "worker/model/layers.h"
#include "worker/model/resample.h"
#include "worker/model/window_attention.h"

namespace cosub::model {
namespace {

constexpr double kNormEps = 1e-5;

/// timm's SwinTransformer with global_pool='avg'. Activations are [N, H, W, C] inside.
struct SwinArch {
  std::int64_t patch_size = 4, window_size = 7, embed_dim = 96;
  std::vector<std::int64_t> depths, num_heads;  // by stage
  double mlp_ratio = 4.0;

  template <class Row, class Visit>
  static void each_key(Row& row, const Visit& visit) {
    visit("patch_size", row.patch_size);
    visit("window_size", row.window_size);
    visit("embed_dim", row.embed_dim);
    visit("depths", row.depths);
    visit("num_heads", row.num_heads);
    visit("mlp_ratio", row.mlp_ratio);
  }
};

/// How one block divides its grid: `window` is at most the grid's side, and only larger grids are shifted.
struct Windows {
  std::int64_t side = 0, window = 0, shift = 0;

  std::int64_t padded() const { return (side + window - 1) / window * window; }
  std::int64_t count() const { return padded() / window; }  // in each direction
  std::int64_t area() const { return window * window; }

  /// [N, side, side, C] -> [N, count^2, area, C], padded with zeros.
  at::Tensor split(const at::Tensor& x) const {
    const std::int64_t rows = x.size(0), channels = x.size(3), padding = padded() - side;
    at::Tensor grid = shift > 0 ? x.roll({-shift, -shift}, {1, 2}) : x;
    if (padding > 0) grid = at::constant_pad_nd(grid, {0, 0, 0, padding, 0, padding});
    return grid.reshape({rows, count(), window, count(), window, channels})
        .permute({0, 1, 3, 2, 4, 5})
        .reshape({rows, count() * count(), area(), channels});
  }

  at::Tensor merge(const at::Tensor& x) const {
    const std::int64_t rows = x.size(0), channels = x.size(3);
    const at::Tensor grid = x.reshape({rows, count(), count(), window, window, channels})
                                .permute({0, 1, 3, 2, 4, 5})
                                .reshape({rows, padded(), padded(), channels})
                                .narrow(1, 0, side)
                                .narrow(2, 0, side);
    return shift > 0 ? grid.roll({shift, shift}, {1, 2}) : grid;
  }

  /// [count^2, 1, area, area]: -100 between positions that only the cyclic shift has brought together;
  /// undefined where nothing is shifted.
  at::Tensor mask() const {
    if (shift == 0) return {};
    at::Tensor region = at::zeros({padded()});
    region.narrow(0, padded() - window, window - shift).fill_(1.0);
    region.narrow(0, padded() - shift, shift).fill_(2.0);
    const at::Tensor regions =
        (region.unsqueeze(1) * 3.0 + region).reshape({count(), window, count(), window});
    const at::Tensor of_window = regions.permute({0, 2, 1, 3}).reshape({count() * count(), area()});
    const at::Tensor differs = of_window.unsqueeze(1) != of_window.unsqueeze(2);
    return (differs.to(at::kFloat) * -100.0).unsqueeze(1);
  }
};

/// [area * area]: the row of the bias table that belongs to each pair of positions in a window.
at::Tensor relative_position_index(std::int64_t window) {
  const at::Tensor line = at::arange(window, at::kLong);
  const at::Tensor row = line.repeat_interleave(window), column = line.repeat({window});
  const at::Tensor rows = row.unsqueeze(1) - row + (window - 1),
                   columns = column.unsqueeze(1) - column + (window - 1);
  return (rows * (2 * window - 1) + columns).flatten();
}

class WindowAttention : public torch::nn::Module {
 public:
  WindowAttention(std::int64_t dim, std::int64_t num_heads, const Windows& windows)
      : num_heads_(num_heads),
        windows_(windows),
        index_(relative_position_index(windows.window)),
        mask_(windows.mask()) {
    const std::int64_t distances = 2 * windows.window - 1;
    table_ =
        register_parameter("relative_position_bias_table", at::zeros({distances * distances, num_heads}));
    qkv_ = add_layer<Linear>(*this, "qkv", dim, 3 * dim);
    proj_ = add_layer<Linear>(*this, "proj", dim, dim);
  }

  at::Tensor forward(const at::Tensor& x) {  // [N, side, side, C] -> same
    const at::Tensor in = windows_.split(x);
    const std::int64_t rows = in.size(0), count = in.size(1), area = in.size(2), dim = in.size(3);
    const at::Tensor qkv = qkv_->forward(in)
                               .reshape({rows, count, area, 3, num_heads_, dim / num_heads_})
                               .permute({3, 0, 1, 4, 2, 5});  // [3, N, windows, heads, area, head_dim]
    const at::Tensor out = window_attention(qkv, bias_of_windows(), /*folds=*/!in.is_cpu());
    return windows_.merge(proj_->forward(out.transpose(2, 3).flatten(3)));
  }

 private:
  at::Tensor bias_of_windows() {  // [1 or windows, heads, area, area]
    const at::Tensor by_pair = table_.index_select(0, index_.beside(table_));
    const at::Tensor bias =
        by_pair.reshape({windows_.area(), windows_.area(), num_heads_}).permute({2, 0, 1}).unsqueeze(0);
    return mask_.defined() ? bias + mask_.beside(table_) : bias;
  }

  std::int64_t num_heads_;
  Windows windows_;
  Constant index_, mask_;
  at::Tensor table_;
  std::shared_ptr<Linear> qkv_, proj_;
};

class SwinBlock : public torch::nn::Module {
 public:
  SwinBlock(std::int64_t dim, std::int64_t num_heads, double mlp_ratio, const Windows& windows,
            const std::string& name, std::int64_t index, ResidualSeam& seam)
      : seam_(seam) {
    attn_branch_ = seam.declare({name + ".attn", index, 0.0, weight_and_bias(name + ".attn.proj")});
    mlp_branch_ = seam.declare({name + ".mlp", index, 0.0, weight_and_bias(name + ".mlp.fc2")});
    norm1_ = add_layer<LayerNorm>(*this, "norm1", dim, kNormEps);
    attn_ = add_layer<WindowAttention>(*this, "attn", dim, num_heads, windows);
    norm2_ = add_layer<LayerNorm>(*this, "norm2", dim, kNormEps);
    mlp_ = add_layer<Mlp>(*this, "mlp", dim, static_cast<std::int64_t>(static_cast<double>(dim) * mlp_ratio));
  }

  at::Tensor forward(at::Tensor x) const {
    const auto attend = [this](const at::Tensor& normed) { return attn_->forward(normed); };
    const auto expand = [this](const at::Tensor& normed) { return mlp_->forward(normed); };
    at::Tensor attended = seam_.apply(attn_branch_, std::move(x), {attend, {}, norm1_->norm()});
    return seam_.apply(mlp_branch_, std::move(attended), {expand, {}, norm2_->norm()});
  }

 private:
  ResidualSeam& seam_;
  std::int64_t attn_branch_, mlp_branch_;
  std::shared_ptr<LayerNorm> norm1_, norm2_;
  std::shared_ptr<WindowAttention> attn_;
  std::shared_ptr<Mlp> mlp_;
};

/// Each 2x2 neighbours (padded where the side is odd) become one position of twice the width.
class PatchMerging : public torch::nn::Module {
 public:
  explicit PatchMerging(std::int64_t dim) {
    norm_ = add_layer<LayerNorm>(*this, "norm", 4 * dim, kNormEps);
    reduction_ = add_layer<Linear>(*this, "reduction", 4 * dim, 2 * dim, /*has_bias=*/false);
  }

  at::Tensor forward(const at::Tensor& x) const {
    const std::int64_t odd = x.size(1) % 2;
    const at::Tensor even = odd > 0 ? at::constant_pad_nd(x, {0, 0, 0, odd, 0, odd}) : x;
    const std::int64_t rows = even.size(0), half = even.size(1) / 2, channels = even.size(3);
    const at::Tensor merged =
        even.reshape({rows, half, 2, half, 2, channels}).permute({0, 1, 3, 4, 2, 5}).flatten(3);
    return reduction_->forward(norm_->forward(merged));
  }

 private:
  std::shared_ptr<LayerNorm> norm_;
  std::shared_ptr<Linear> reduction_;
};

class SwinTransformer : public Backbone {
 public:
  SwinTransformer(config::ModelConfig config, const SwinArch& arch)
      : Backbone(std::move(config)), arch_(arch) {
    torch::nn::Module& patch_embed = group(*this, "patch_embed");
    proj_ = add_layer<Conv2d>(
        patch_embed, "proj", config_.channels, arch.embed_dim,
        Conv2d::Options{.kernel = arch.patch_size, .stride = arch.patch_size, .bias = true});
    patch_norm_ = add_layer<LayerNorm>(patch_embed, "norm", arch.embed_dim, kNormEps);
    std::int64_t side = config_.image_size / arch.patch_size, dim = arch.embed_dim, index = 0;
    for (std::size_t i = 0; i < arch.depths.size(); ++i) {
      torch::nn::Module& layer = group(group(*this, "layers"), std::to_string(i));
      Stage stage;
      if (i > 0) {
        stage.downsample = add_layer<PatchMerging>(layer, "downsample", dim);
        side = (side + 1) / 2;
        dim *= 2;
      }
      for (std::int64_t j = 0; j < arch.depths[i]; ++j, ++index) {
        const std::string name = fmt::format("layers.{}.blocks.{}", i, j);
        const Windows windows = windows_of(side, j);
        table_windows_[name + ".attn.relative_position_bias_table"] = windows.window;
        stage.blocks.push_back(add_layer<SwinBlock>(group(layer, "blocks"), std::to_string(j), dim,
                                                    arch.num_heads[i], arch.mlp_ratio, windows, name, index,
                                                    seam_));
      }
      stages_.push_back(std::move(stage));
    }
    norm_ = add_layer<LayerNorm>(*this, "norm", dim, kNormEps);
    add_classifier("head.fc", dim);
  }

  void init(std::uint64_t stream) override {
    for (auto& item : named_parameters()) {
      if (item.value().dim() == 2) init_normal(item.value(), 0.02, stream, item.key());
    }
    init_torch_default(proj_->weight, proj_->bias, stream, "patch_embed.proj");
  }

  at::Tensor forward_features(const at::Tensor& images) override {
    at::Tensor x = proj_->forward(seam_.start(images)).permute({0, 2, 3, 1}).contiguous();
    x = patch_norm_->forward(x);
    for (const Stage& stage : stages_) {
      if (stage.downsample) x = stage.downsample->forward(x);
      for (const auto& block : stage.blocks) x = block->forward(std::move(x));
    }
    return norm_->forward(seam_.finish(x)).mean({1, 2});
  }

  std::vector<std::string> no_weight_decay() const override {
    std::vector<std::string> tables;
    for (const auto& [name, window] : table_windows_) tables.push_back(name);
    return tables;
  }
  std::vector<LayerPattern> layer_patterns() const override {
    return {{"patch_embed", 0},
            {R"(layers\.(\d+)\.downsample)", 1, 0},
            {R"(layers\.(\d+)\.\w+\.(\d+))", 1},
            {"norm", 1, kWithPrevious}};
  }
  void resample(State& state) const override {
    for (const auto& [name, window] : table_windows_) {
      const auto found = state.find(name);
      if (found != state.end()) found->second = resample_relative_positions(found->second, window);
    }
  }
  BlockLayout block_layout() const override {
    BlockLayout layout{"depths", {}, ""};
    std::int64_t side = config_.image_size / arch_.patch_size;
    for (std::size_t i = 0; i < arch_.depths.size(); ++i) {
      if (i > 0) side = (side + 1) / 2;
      const std::int64_t period = windows_of(side, 1).shift > 0 ? 2 : 1;  // every second block is shifted
      layout.stages.push_back({fmt::format("layers.{}.blocks.", i), arch_.depths[i], period});
    }
    return layout;
  }
  TimmClass timm_class() const override {
    nlohmann::json args = timm_args(arch_);
    args["img_size"] = config_.image_size;
    return {std::move(args), "avg", "patch_embed.proj"};
  }

 private:
  struct Stage {
    std::shared_ptr<PatchMerging> downsample;
    std::vector<std::shared_ptr<SwinBlock>> blocks;
  };

  Windows windows_of(std::int64_t side, std::int64_t block) const {
    const bool whole = side <= arch_.window_size;  // one window holds the grid
    const bool shifted = !whole && block % 2 == 1;
    return {side, whole ? side : arch_.window_size, shifted ? arch_.window_size / 2 : 0};
  }

  SwinArch arch_;
  std::shared_ptr<Conv2d> proj_;
  std::shared_ptr<LayerNorm> patch_norm_, norm_;
  std::vector<Stage> stages_;
  std::map<std::string, std::int64_t> table_windows_;  // by the table's name
};

const std::map<std::string, SwinArch>& swin_archs() {
  static const std::map<std::string, SwinArch> table = {
      {"swin_tiny_patch4_window7_224", {4, 7, 96, {2, 2, 6, 2}, {3, 6, 12, 24}}},
      {"swin_small_patch4_window7_224", {4, 7, 96, {2, 2, 18, 2}, {3, 6, 12, 24}}},
      {"swin_base_patch4_window7_224", {4, 7, 128, {2, 2, 18, 2}, {4, 8, 16, 32}}},
      {"swin_large_patch4_window7_224", {4, 7, 192, {2, 2, 18, 2}, {6, 12, 24, 48}}},
      {"swin_base_patch4_window12_384", {4, 12, 128, {2, 2, 18, 2}, {4, 8, 16, 32}}},
      {"swin_large_patch4_window12_384", {4, 12, 192, {2, 2, 18, 2}, {6, 12, 24, 48}}},
  };
  return table;
}

std::shared_ptr<Backbone> create_swin(const config::ModelConfig& config) {
  const SwinArch arch = overridden(swin_archs().at(config.name), config);
  check_image_multiple(config, arch.patch_size, "patch_size");
  check_per_stage(config, "depths", arch.depths, arch.num_heads.size());
  for (std::size_t i = 0; i < arch.num_heads.size(); ++i) {
    check_heads(config, arch.embed_dim << i, arch.num_heads[i]);
  }
  return std::make_shared<SwinTransformer>(config, arch);
}

}  // namespace

Family swin_family() {
  return {"Swin", "arXiv 2103.14030", config::DropRateRule::kLinear, names_of(swin_archs()), create_swin};
}

}  // namespace cosub::model
