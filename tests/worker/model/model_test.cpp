#include "worker/model/model.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/worker/model/models.h"
#include "worker/model/constant.h"

namespace cosub::model {
namespace {

using ::testing::HasSubstr;

TEST(Create, UnknownNameSuggestsTheNearest) {
  config::ModelConfig config = small_vit();
  config.name = "deit3_smal_patch16_224";
  EXPECT_THROW(create(config, 0), ConfigError);
  EXPECT_THAT(message_of([&] { create(config, 0); }), HasSubstr("Did you mean 'deit3_small_patch16_224'?"));
}

TEST(Create, RefusesWhatTheFamilyDoesNotKnow) {
  config::ModelConfig vit = small_vit(), resnet = small_resnet();
  vit.arch["layers"] = std::vector<std::int64_t>{1, 1, 1, 1};
  resnet.arch["depth"] = 3;
  EXPECT_THAT(message_of([&] { create(vit, 0); }),
              HasSubstr("model.arch.layers: not a key of deit3_small_patch16_224"));
  EXPECT_THAT(message_of([&] { create(resnet, 0); }),
              HasSubstr("It knows layers, channels, stem_type, stem_width"));
}

TEST(Create, RefusesImpossibleSizesWithWhatWouldDo) {
  EXPECT_THAT(message_of([] { create(small_vit(5, 18), 0); }), HasSubstr("nearest: 16 or 20"));
  config::ModelConfig config = small_resnet();
  config.arch["channels"] = std::vector<std::int64_t>{8, 12, 16};
  EXPECT_THAT(message_of([&] { create(config, 0); }),
              HasSubstr("has 4 stages and needs a positive number for each; found [8,12,16]"));
  config = small_resnet();
  config.arch["stem_type"] = "";
  EXPECT_THAT(message_of([&] { create(config, 0); }), HasSubstr("always 64 wide"));
  config = small_resnet();
  config.channels = 2;
  EXPECT_THAT(message_of([&] { create(config, 0); }), HasSubstr("allowed: 1 (grey), 3 (RGB)"));
}

TEST(Create, EveryNamedModelFitsItsTableRow) {
  // Only the small ones are built; the table itself is what could be wrong.
  EXPECT_EQ(model_names().size(), 13U + 6U + 11U + 4U + 14U + 6U + 9U);
  for (const char* name : {"vit_tiny_patch16_224", "resnet18", "resnet26"}) {
    config::ModelConfig config;
    config.name = name;
    config.classes = 1000;
    std::int64_t parameters = 0;
    for (const at::Tensor& parameter : create(config, 0)->parameters()) parameters += parameter.numel();
    const std::map<std::string, std::int64_t> timm = {
        {"vit_tiny_patch16_224", 5717416}, {"resnet18", 11689512}, {"resnet26", 15995176}};
    EXPECT_EQ(parameters, timm.at(name)) << name;
  }
}

TEST(Create, InitialWeightsDependOnStreamAndNameOnly) {
  const auto one = state_of(*create(small_vit(5), 1)), other = state_of(*create(small_vit(9), 1));
  const auto another_stream = state_of(*create(small_vit(5), 2));
  EXPECT_TRUE(at::equal(one.at("blocks.1.mlp.fc1.weight"), other.at("blocks.1.mlp.fc1.weight")));
  EXPECT_FALSE(at::equal(one.at("blocks.1.mlp.fc1.weight"), one.at("blocks.2.mlp.fc1.weight")));
  EXPECT_FALSE(at::equal(one.at("blocks.1.mlp.fc1.weight"), another_stream.at("blocks.1.mlp.fc1.weight")));
}

TEST(Create, DrawsTheSameWeightsWithAnyNumberOfThreads) {
  config::ModelConfig config = small_vit(5);
  config.arch["embed_dim"] = std::int64_t{132};  // fc1 takes three pieces of a draw
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const auto alone = state_of(*create(config, 1));
  at::set_num_threads(3);
  const auto together = state_of(*create(config, 1));
  at::set_num_threads(before);
  for (const auto& [name, tensor] : alone) EXPECT_TRUE(at::equal(tensor, together.at(name))) << name;
}

void expect_spread(const at::Tensor& tensor, double std, const std::string& name) {
  const double n = static_cast<double>(tensor.numel());
  EXPECT_NEAR(tensor.mean().item<double>(), 0.0, 5.0 * std / std::sqrt(n)) << name;
  EXPECT_NEAR(tensor.std().item<double>() / std, 1.0, 5.0 / std::sqrt(n)) << name;
}

TEST(Create, InitialisesAsTimmDoes) {
  config::ModelConfig vit;
  vit.name = "deit3_small_patch16_224";
  vit.classes = 100;
  vit.arch["depth"] = 1;
  const auto weights = state_of(*create(vit, 0));
  for (const char* name :
       {"pos_embed", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc2.weight", "head.weight"}) {
    expect_spread(weights.at(name), 0.02, name);
  }
  expect_spread(weights.at("cls_token"), 1e-6, "cls_token");
  const double bound = 1.0 / std::sqrt(3.0 * 16.0 * 16.0);
  expect_spread(weights.at("patch_embed.proj.weight"), bound / std::sqrt(3.0), "patch_embed");
  EXPECT_LE(weights.at("patch_embed.proj.bias").abs().max().item<double>(), bound);
  EXPECT_TRUE(at::equal(weights.at("blocks.0.ls1.gamma"), at::full({384}, 1e-6)));
  EXPECT_TRUE(at::equal(weights.at("head.bias"), at::zeros({100})));

  config::ModelConfig resnet;
  resnet.name = "resnet18";
  resnet.classes = 100;
  const auto convs = state_of(*create(resnet, 0));
  expect_spread(convs.at("conv1.weight"), std::sqrt(2.0 / (64.0 * 49.0)), "conv1");
  expect_spread(convs.at("layer4.0.downsample.0.weight"), std::sqrt(2.0 / 512.0), "downsample");
  expect_spread(convs.at("fc.weight"), 1.0 / std::sqrt(3.0 * 512.0), "fc");
  EXPECT_TRUE(at::equal(convs.at("layer2.1.bn2.weight"), at::zeros({128})));
  EXPECT_TRUE(at::equal(convs.at("layer2.1.bn1.weight"), at::ones({128})));
}

TEST(Create, BranchesAreNumberedAndNamed) {
  const auto vit = create(small_vit(), 0), resnet = create(small_resnet(), 0);
  EXPECT_EQ(vit->seam().num_blocks(), 3);
  EXPECT_EQ(vit->seam().branches()[3].name, "blocks.1.mlp");
  EXPECT_EQ(vit->seam().branches()[3].block, 1);
  EXPECT_EQ(resnet->seam().num_blocks(), 5);
  EXPECT_EQ(resnet->seam().branches()[2].name, "layer2.0");
}

TEST(Forward, TwoViewsGiveTwiceTheRows) {
  for (const config::ModelConfig& config : {small_vit(), small_resnet()}) {
    const auto backbone = create(config, 0);
    Pass pass;
    pass.kind = Pass::Kind::kTrain;
    pass.images = 4;
    pass.views = 2;
    backbone->seam().set_drop_rates(
        std::vector<double>(static_cast<std::size_t>(backbone->seam().num_blocks()), 0.5));
    pass.kept = draw_kept_rows(backbone->seam().branches(), DepthMode::kFixed, 4, 2, 0, 0, 0);
    backbone->seam().begin(pass);
    const at::Tensor images = at::randn({4, 1, config.image_size, config.image_size});
    EXPECT_EQ(backbone->forward(images).sizes(), (std::vector<std::int64_t>{8, 5}));
  }
}

TEST(ConstantTensor, FollowsTheParameterOnceAndIsUsableInAnyMode) {
  Constant table(at::arange(4, at::kLong)), mask(at::ones({2}));
  const at::Tensor on_cpu = at::ones({1}),
                   elsewhere = at::ones({1}, at::dtype(at::kDouble).device(at::kMeta));
  EXPECT_TRUE(mask.beside(on_cpu).is_same(mask.beside(on_cpu)));
  {
    const c10::InferenceMode evaluating;
    table.beside(elsewhere);
    mask.beside(elsewhere);
  }
  for (Constant* constant : {&table, &mask}) {
    const at::Tensor once = constant->beside(elsewhere);
    EXPECT_TRUE(once.is_meta());
    EXPECT_FALSE(once.is_inference());
    EXPECT_TRUE(constant->beside(elsewhere).is_same(once));
    EXPECT_TRUE(constant->beside(on_cpu).is_cpu());
  }
  EXPECT_EQ(mask.beside(elsewhere).scalar_type(), at::kDouble);
  EXPECT_EQ(table.beside(elsewhere).scalar_type(), at::kLong);
}

TEST(TimmConfig, ReadsBackAsTheSameModel) {
  for (const config::ModelConfig& config : {small_vit(), small_resnet()}) {
    const auto backbone = create(config, 0);
    const config::ModelConfig read = model_config_from_timm(backbone->timm_config());
    const auto again = create(read, 0);
    EXPECT_EQ(again->timm_config(), backbone->timm_config());
    EXPECT_EQ(read.channels, config.channels);
    EXPECT_EQ(read.image_size, config.image_size);
    const auto one = state_of(*backbone), two = state_of(*again);
    for (const auto& [name, tensor] : one) EXPECT_EQ(two.at(name).sizes(), tensor.sizes()) << name;
  }
}

TEST(TimmConfig, NamesTheKeyThatIsMissingOrWrong) {
  nlohmann::json config = create(small_vit(), 0)->timm_config();
  config["model_args"]["depth"] = "three";
  EXPECT_THAT(message_of([&] { model_config_from_timm(config); }), HasSubstr("model_args.depth"));
  config.erase("num_classes");
  EXPECT_THAT(message_of([&] { model_config_from_timm(config); }), HasSubstr("num_classes is missing"));
}

}  // namespace
}  // namespace cosub::model
