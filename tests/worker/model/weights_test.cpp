#include "worker/model/weights.h"
#include "worker/model/resample.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/model/models.h"
#include "worker/model/tensor_file.h"

namespace cosub::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::map<std::string, at::Tensor> copy_of(Backbone& backbone) {
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : state_of(backbone)) state.emplace(name, tensor.detach().clone());
  return state;
}

TEST(LoadState, TakesAFileBack) {
  const testing::TemporaryFolder folder;
  for (const config::ModelConfig& config : {small_vit(), small_resnet()}) {
    const auto saved = create(config, 1), loaded = create(config, 2);
    const auto path = folder.path() / (config.name + ".safetensors");
    write_tensors(path, state_of(*saved));
    load_state(*loaded, read_tensors(path), HeadPolicy::kKeep, path.string());
    const auto expected = state_of(*saved), found = state_of(*loaded);
    for (const auto& [name, tensor] : expected) EXPECT_TRUE(at::equal(found.at(name), tensor)) << name;
  }
}

TEST(LoadState, ListsEveryProblemAndChangesNothing) {
  const auto backbone = create(small_vit(), 1);
  const auto before = copy_of(*backbone);
  auto state = copy_of(*create(small_vit(), 2));
  auto node = state.extract("blocks.1.norm1.weight");
  node.key() = "blocks.1.nrom1.weight";
  state.insert(std::move(node));
  state["norm.bias"] = at::zeros({25});
  const std::string message =
      message_of([&] { load_state(*backbone, state, HeadPolicy::kKeep, "weights.safetensors"); });
  EXPECT_THAT(message,
              AllOf(HasSubstr("weights.safetensors does not fit"),
                    HasSubstr("blocks.1.norm1.weight: missing. Did you mean 'blocks.1.nrom1.weight'?"),
                    HasSubstr("blocks.1.nrom1.weight: not a tensor of this model"),
                    HasSubstr("norm.bias: shape [25], the model's is [24]")));
  for (const auto& [name, tensor] : state_of(*backbone))
    EXPECT_TRUE(at::equal(before.at(name), tensor)) << name;
}

TEST(LoadState, AnotherClassCountNeedsAReplacedHead) {
  auto backbone = create(small_vit(7), 1);
  const auto fresh_head = state_of(*backbone).at("head.weight").detach().clone();
  const auto state = copy_of(*create(small_vit(5), 2));
  EXPECT_THROW(load_state(*backbone, state, HeadPolicy::kKeep, "w"), DataError);
  EXPECT_THAT(message_of([&] { load_state(*backbone, state, HeadPolicy::kKeep, "w"); }),
              HasSubstr("5 classes against 7; init.head: replace"));
  load_state(*backbone, state, HeadPolicy::kReplace, "w");
  EXPECT_TRUE(at::equal(state_of(*backbone).at("head.weight"), fresh_head));
  EXPECT_TRUE(at::equal(state_of(*backbone).at("norm.weight"), state.at("norm.weight")));
}

TEST(LoadState, ResamplesPositionsForAnotherImageSize) {
  const auto backbone = create(small_vit(5, 24), 1);
  auto state = copy_of(*create(small_vit(5, 16), 2));
  // Bicubic interpolation keeps a plane exact away from the border, and a constant everywhere.
  state["pos_embed"] = at::full({1, 16, 24}, 0.75);
  load_state(*backbone, state, HeadPolicy::kKeep, "w");
  EXPECT_TRUE(at::allclose(state_of(*backbone).at("pos_embed"), at::full({1, 36, 24}, 0.75)));
}

TEST(ResamplePositionEmbedding, LeavesPrefixTokensAndOrientationAlone) {
  const at::Tensor rows = at::arange(4, at::kFloat).repeat_interleave(4).reshape({1, 16, 1});  // value = row
  const at::Tensor embedding = at::cat({at::full({1, 1, 1}, 99.0), rows}, 1);
  const at::Tensor larger = resample_position_embedding(embedding, 1, 8);
  EXPECT_EQ(larger.sizes(), (std::vector<std::int64_t>{1, 65, 1}));
  EXPECT_FLOAT_EQ(larger[0][0][0].item<float>(), 99.0F);
  const at::Tensor grid = larger.narrow(1, 1, 64).reshape({8, 8});
  EXPECT_TRUE(at::allclose(grid.select(1, 0), grid.select(1, 7))) << "columns differ: transposed";
  EXPECT_GT((grid[7][0] - grid[0][0]).item<float>(), 2.5F);
}

TEST(TensorFile, KeepsShapesTypesAndBits) {
  const testing::TemporaryFolder folder;
  const std::map<std::string, at::Tensor> tensors = {{"scalar", at::tensor(3, at::kLong)},
                                                     {"half", at::randn({3, 2}).to(at::kHalf)},
                                                     {"double", at::randn({2, 1, 4}, at::kDouble)},
                                                     {"transposed", at::randn({4, 3}).t()},
                                                     {"empty", at::empty({0, 3})}};
  write_tensors(folder.path() / "t.safetensors", tensors);
  const auto read = read_tensors(folder.path() / "t.safetensors");
  ASSERT_EQ(read.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(read.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(read.at(name), tensor)) << name;
  }
}

}  // namespace
}  // namespace cosub::model
