#include "worker/model/weights.h"
#include "worker/model/resample.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/model/models.h"
#include "worker/model/tensor_file.h"

namespace cosub::model {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::StartsWith;

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

std::ptrdiff_t num_lines(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n') + 1;
}

TEST(LoadState, AnotherArchitecturesWeightsAreToldInAFewLines) {
  const auto vit = create(small_vit(), 1), resnet = create(small_resnet(), 2);
  for (const auto& [into, from] : {std::pair(vit, resnet), std::pair(resnet, vit)}) {
    const std::string message =
        message_of([&] { load_state(*into, copy_of(*from), HeadPolicy::kKeep, "w.safetensors"); });
    const std::string first_line = message.substr(0, message.find('\n'));
    EXPECT_THAT(
        first_line,
        AllOf(StartsWith("w.safetensors does not fit "),
              ContainsRegex(fmt::format("[0-2] of the model's {} tensors are there", state_of(*into).size())),
              HasSubstr("weights of another architecture")));
    EXPECT_THAT(message, AllOf(ContainsRegex("\n  \\.\\.\\. and [0-9]+ more missing"),
                               ContainsRegex("\n  \\.\\.\\. and [0-9]+ more that are not this model's")));
    EXPECT_LE(num_lines(message), 22) << message;
  }
}

TEST(LoadState, ACommonPrefixOfAllNamesIsTold) {
  const auto backbone = create(small_vit(), 1);
  for (const HeadPolicy head : {HeadPolicy::kKeep, HeadPolicy::kReplace}) {
    std::map<std::string, at::Tensor> state;
    for (const auto& [name, tensor] : copy_of(*backbone)) state.emplace("module.net." + name, tensor);
    EXPECT_THAT(message_of([&] { load_state(*backbone, state, head, "w"); }),
                HasSubstr("every name begins with 'module.net.': store the tensors without 'module.net.'"));
  }
}

TEST(LoadState, DtypesAreNamedAsInPython) {
  const auto backbone = create(small_vit(), 1);
  auto state = copy_of(*backbone);
  state["norm.bias"] = at::zeros({24}, at::kChar);
  EXPECT_THAT(message_of([&] { load_state(*backbone, state, HeadPolicy::kKeep, "w"); }),
              AllOf(HasSubstr("1 more with another shape or dtype"),
                    HasSubstr("norm.bias: dtype int8, the model's is float32")));
}

// Interpolation would refuse this with an error of PyTorch's own.
TEST(LoadState, AnEmptyPositionEmbeddingIsAProblemLikeOthers) {
  const auto backbone = create(small_vit(5, 24), 1);
  auto state = copy_of(*create(small_vit(5, 16), 2));
  state["pos_embed"] = at::zeros({1, 16, 0});
  EXPECT_THROW(load_state(*backbone, state, HeadPolicy::kKeep, "w"), DataError);
}

TEST(LoadState, HostileNamesDoNotFloodTheMessage) {
  const auto backbone = create(small_vit(), 1);
  auto state = copy_of(*backbone);
  for (int i = 0; i < 1000; ++i)
    state[fmt::format("{}{}\x1b[2J\n", std::string(5000, 'x'), i)] = at::zeros({1});
  const std::string message = message_of([&] { load_state(*backbone, state, HeadPolicy::kKeep, "w"); });
  EXPECT_LT(message.size(), 5000U);
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
  EXPECT_THAT(message, HasSubstr("... and 982 more that are not this model's"));
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

TEST(TensorFile, APyTorchFileIsToldWithItsConversion) {
  const testing::TemporaryFolder folder;
  const std::filesystem::path path = folder / "deit.pth";
  write_file_atomically(path, "PK\x03\x04" + std::string(60, '\0'));
  EXPECT_THAT(
      message_of([&] { read_tensors(path); }),
      AllOf(StartsWith(path.string() + " is a zip archive, as torch.save writes"),
            HasSubstr("torch.load(\"" + path.string() + "\", map_location=\"cpu\", weights_only=True)"),
            HasSubstr((folder / "deit.safetensors").string())));
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
