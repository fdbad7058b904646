// What holds for a small member of every family.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/worker/model/models.h"
#include "worker/model/cost.h"
#include "worker/model/families.h"
#include "worker/model/trim.h"

namespace cosub::model {
namespace {

using ::testing::HasSubstr;

/// Every tensor away from its initial value, so that no branch is nearly nothing. The same for the same
/// model.
std::shared_ptr<Backbone> redrawn(const config::ModelConfig& config) {
  auto backbone = create(config, 1);
  const at::NoGradGuard no_grad;
  at::manual_seed(7);
  for (auto& item : backbone->named_parameters()) {
    if (item.value().dim() == 1) item.value().uniform_(0.5, 1.5);
  }
  for (auto& item : backbone->named_buffers()) {
    if (item.value().dim() == 1) item.value().uniform_(0.5, 1.5);
  }
  return backbone;
}

at::Tensor images_for(const Backbone& backbone, std::int64_t count) {
  at::manual_seed(3);
  const std::int64_t size = backbone.config().image_size;
  return at::randn({count, backbone.config().channels, size, size});
}

class EveryFamily : public ::testing::TestWithParam<config::ModelConfig> {};

INSTANTIATE_TEST_SUITE_P(Small, EveryFamily, ::testing::ValuesIn(small_models()),
                         [](const auto& member) { return family_of(member.param.name).name; });

TEST_P(EveryFamily, TwoViewsGiveTwiceTheRowsAndTheStemIsShared) {
  const auto backbone = create(GetParam(), 0);
  std::vector<double> rates(static_cast<std::size_t>(backbone->seam().num_blocks()), 0.5);
  rates.front() = 0.0;
  backbone->seam().set_drop_rates(rates);
  Pass pass;
  pass.kind = Pass::Kind::kTrain;
  pass.images = 4;
  pass.views = 2;
  pass.kept = draw_kept_rows(backbone->seam().branches(), DepthMode::kFixed, 4, 2, 0, 0, 0);
  backbone->seam().begin(pass);
  EXPECT_EQ(backbone->forward(images_for(*backbone, 4)).sizes(), (std::vector<std::int64_t>{8, 5}));
}

/// Gradients of one training step on drawn rows.
std::map<std::string, at::Tensor> gradients_of(const config::ModelConfig& config) {
  const auto backbone = redrawn(config);
  backbone->train();
  const at::Tensor statistics = at::zeros({backbone->batch_statistics().size()});
  backbone->batch_statistics().write_to(statistics);
  backbone->seam().set_drop_rates(
      std::vector<double>(static_cast<std::size_t>(backbone->seam().num_blocks()), 0.25));
  Pass pass;
  pass.kind = Pass::Kind::kTrain;
  pass.images = 4;
  pass.views = 2;
  pass.kept = draw_kept_rows(backbone->seam().branches(), DepthMode::kFixed, 4, 2, 5, 0, 0);
  backbone->seam().begin(pass);
  backbone->forward(images_for(*backbone, 4)).square().mean().backward();
  std::map<std::string, at::Tensor> gradients;
  for (auto& item : backbone->named_parameters()) gradients[item.key()] = item.value().grad();
  gradients["statistics"] = statistics;
  return gradients;
}

TEST_P(EveryFamily, ActivationCheckpointingChangesNoBit) {
  config::ModelConfig config = GetParam();
  const auto kept = gradients_of(config);
  config.activation_checkpointing = true;
  const auto recomputed = gradients_of(config);
  for (const auto& [name, gradient] : kept) {
    ASSERT_EQ(gradient.defined(), recomputed.at(name).defined()) << name;
    EXPECT_TRUE(!gradient.defined() || at::equal(gradient, recomputed.at(name))) << name;
  }
}

TEST_P(EveryFamily, ActivationCheckpointingKeepsLess) {
  config::ModelConfig config = GetParam();
  const std::int64_t kept = measure_cost(*create(config, 0)).activation_bytes_per_row;
  config.activation_checkpointing = true;
  EXPECT_LT(measure_cost(*create(config, 0)).activation_bytes_per_row, kept * 3 / 4);
}

/// 17 tokens of 24 numbers before each of six branches; before the last only the class token.
TEST(ActivationCheckpointing, KeepsTheInputOfEachBranchAlone) {
  config::ModelConfig config = small_vit();
  config.activation_checkpointing = true;
  const std::int64_t token = 24 * 4;
  EXPECT_NEAR(static_cast<double>(measure_cost(*create(config, 0)).activation_bytes_per_row),
              static_cast<double>((5 * 17 + 1) * token), 20.0 * token);
}

/// What a wider MLP keeps more is its hidden tensor before GELU: 17 tokens in two blocks, and the class
/// token.
TEST(Vit, KeepsOneHiddenTensorOfEachMlp) {
  config::ModelConfig config = small_vit();
  std::vector<std::int64_t> kept;
  for (const double ratio : {4.0, 5.0}) {
    config.arch["mlp_ratio"] = ratio;
    kept.push_back(measure_cost(*create(config, 0)).activation_bytes_per_row);
  }
  EXPECT_EQ(kept[1] - kept[0], (2 * 17 + 1) * 24 * 4);
}

/// Blocks that the architecture can do without.
std::string removable(const std::string& family) {
  if (family == "Swin") return "0,1,4,5";    // the second stage loses a pair
  if (family == "ResNet") return "1,2,3,4";  // layer1.0 has no projecting shortcut here
  if (family == "PiT") return "0,1,3,4";
  if (family == "ConvNeXt") return "0,1,3,4,5";
  return "0,2";
}

at::Tensor submodel_logits(Backbone& backbone, const std::vector<bool>& keep,
                           const std::vector<double>& scale) {
  Pass pass;
  pass.kind = Pass::Kind::kSubmodel;
  pass.images = 3;
  pass.keep_block = keep;
  pass.block_scale = scale;
  backbone.eval();
  backbone.seam().begin(pass);
  return backbone.forward(images_for(backbone, 3));
}

TEST_P(EveryFamily, TrimmedModelIsTheSubmodel) {
  const auto backbone = redrawn(GetParam());
  const auto num_blocks = static_cast<std::size_t>(backbone->seam().num_blocks());
  const std::string family = family_of(GetParam().name).name;
  std::vector<bool> keep =
      parse_keep(family == "RegNet" ? "all" : removable(family), backbone->seam().num_blocks());
  if (family == "RegNet") {
    EXPECT_THAT(message_of([&] { trim(*backbone, keep, {}); }), HasSubstr("w0, wa, wm and depth"));
    return;
  }
  const at::NoGradGuard no_grad;
  for (const std::vector<double>& scale : {std::vector<double>{}, std::vector<double>(num_blocks, 1.5)}) {
    const at::Tensor wanted = submodel_logits(*backbone, keep, scale);
    const auto trimmed = trim(*backbone, keep, scale);
    EXPECT_LT(trimmed->seam().num_blocks(), backbone->seam().num_blocks());
    const std::vector<bool> all(static_cast<std::size_t>(trimmed->seam().num_blocks()), true);
    const at::Tensor found = submodel_logits(*trimmed, all, {});
    EXPECT_LT((found - wanted).norm().item<double>() / wanted.norm().item<double>(), 1e-5);
    EXPECT_GT(
        (submodel_logits(*backbone, std::vector<bool>(num_blocks, true), {}) - wanted).norm().item<double>(),
        1e-4 * wanted.norm().item<double>());
  }
}

TEST(Trim, NamesTheBlockThatCannotGo) {
  const auto models = small_models();
  const auto resnet = redrawn(models[1]), pit = redrawn(models[3]), swin = redrawn(models[5]);
  EXPECT_THAT(message_of([&] { trim(*resnet, parse_keep("0,1,3,4", 5), {}); }),
              HasSubstr("block 2 (layer2.0) has a projecting shortcut"));
  EXPECT_THAT(message_of([&] { trim(*pit, parse_keep("1,2,3,4", 5), {}); }),
              HasSubstr("no block of transformers.0.blocks.* (blocks 0 to 0) is kept"));
  EXPECT_THAT(message_of([&] { trim(*swin, parse_keep("1,2,3,4,5", 6), {}); }), HasSubstr("shifted windows"));
}

/// Multiply-adds of a row. The last block of a ViT: keys and values of all tokens, the rest of the class
/// token.
struct Branches {
  std::int64_t attn, mlp;
};
Branches of_last_block(std::int64_t dim, std::int64_t tokens) {
  return {tokens * dim * 2 * dim + dim * dim + 2 * tokens * dim + dim * dim, 2 * dim * 4 * dim};
}

TEST(MeasureCost, CountsMultiplyAddsAsPublished) {
  // 1.82 G for ResNet-18 at 224 x 224 (arXiv 1512.03385, table 1, which counts without the classifier: 1.8 x
  // 10^9).
  config::ModelConfig config;
  config.name = "resnet18";
  config.classes = 1000;
  EXPECT_NEAR(static_cast<double>(measure_cost(*create(config, std::nullopt)).multiply_adds), 1.82e9, 0.01e9);
  // A linear layer on top of a mean over one patch: every product can be counted by hand.
  config::ModelConfig vit = small_vit(5, 4);
  vit.arch["depth"] = 2;
  const std::int64_t dim = 24, tokens = 2;
  const std::int64_t block =
      tokens * dim * 3 * dim + 2 * tokens * tokens * dim + tokens * dim * dim + 2 * tokens * dim * 4 * dim;
  const Branches last = of_last_block(dim, tokens);
  EXPECT_EQ(measure_cost(*create(vit, std::nullopt)).multiply_adds,
            16 * dim + block + last.attn + last.mlp + dim * 5);
}

TEST_P(EveryFamily, APassCostsWhatItsRowsCost) {
  const auto backbone = create(GetParam(), std::nullopt);
  Pass pass;
  pass.kind = Pass::Kind::kTrain;
  pass.share_stem = false;
  pass.kept.branches.resize(backbone->seam().branches().size());
  const auto cost_of = [&](std::int64_t images) {
    pass.images = images;
    return multiply_adds_of_pass(*backbone, pass);
  };
  // Half of it is measured on 2 images. XCiT's positions cost the same for any number of images.
  EXPECT_EQ(cost_of(2), 2 * measure_cost(*backbone).multiply_adds);
  EXPECT_EQ(cost_of(6) - cost_of(2), 2 * (cost_of(4) - cost_of(2)));
  const std::int64_t twelve = cost_of(12);
  pass.views = 2;
  const std::int64_t all = cost_of(6);
  EXPECT_EQ(all, twelve);
  for (std::size_t i = 1; i < pass.kept.branches.size(); ++i) pass.kept.branches[i].all = false;
  const std::int64_t without_branches = cost_of(6);
  for (std::size_t i = 1; i < pass.kept.branches.size(); ++i) pass.kept.branches[i].rows = {0, 1, 2, 6, 7, 8};
  const std::int64_t half = cost_of(6);
  EXPECT_LT(without_branches, half);
  EXPECT_EQ(2 * half - without_branches, all);
}

TEST(MeasureCost, CountsOnlyTheRowsThatRun) {
  config::ModelConfig config = small_vit(5, 4);
  config.arch["depth"] = 1;
  const auto vit = create(config, std::nullopt);
  Pass pass;
  pass.kind = Pass::Kind::kTrain;
  pass.images = 9;
  pass.views = 2;
  pass.kept.branches = {{false, {0, 1, 2, 3, 9, 10, 11}, 1.0}, {false, {4, 13, 14}, 1.0}};
  const std::int64_t dim = 24, tokens = 2;
  const auto [attn, mlp] = of_last_block(dim, tokens);
  const std::int64_t head = dim * 5, stem = 16 * dim;
  EXPECT_EQ(multiply_adds_of_pass(*vit, pass), 9 * stem + 7 * attn + 3 * mlp + 18 * head);
}

TEST(TrainingScales, AreTheInverseOfTheKeptShare) {
  config::ModelConfig config = small_models()[4];  // XCiT, whose last blocks never drop
  config.drop_rate = 0.25;
  const auto scales = training_scales(*create(config, 0), 8);
  EXPECT_EQ(scales, (std::vector<double>{8.0 / 6, 8.0 / 6, 8.0 / 6}));
  config.drop_rate_rule = config::DropRateRule::kLinear;
  config.stochastic_depth = config::StochasticDepth::kBernoulli;
  EXPECT_EQ(training_scales(*create(config, 0), 8), (std::vector<double>{1.0, 1.0 / 0.875, 1.0 / 0.75}));
}

}  // namespace
}  // namespace cosub::model
