// Exports and what is read back from them.
#include "worker/train/export_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/train/toy_stage.h"
#include "worker/checkpoint/checkpoint.h"

namespace cosub::train {
namespace {

using ::testing::HasSubstr;

at::Tensor logits(model::Backbone& model, const at::Tensor& images) {
  at::NoGradGuard no_grad;
  model.eval();
  model.seam().begin({.kind = model::Pass::Kind::kFull, .images = images.size(0)});
  return model.forward(images);
}

class ExportModel : public ::testing::Test {
 protected:
  testing::TemporaryFolder folder_;
  config::DataConfig data_{.mean = {0.25}, .std = {0.75}};
};

TEST_F(ExportModel, ComesBackAsTheSameModel) {
  for (const config::ModelConfig& config : {testing::toy_resnet(), testing::toy_vit()}) {
    auto model = model::create(config, 9);
    std::filesystem::path folder = folder_ / config.name;
    std::string sha256 = export_model(*model, complete_timm_config(*model, data_), folder);
    EXPECT_EQ(sha256, sha256_file(folder / "model.safetensors"));
    LoadedModel loaded = load_model(folder);
    at::Tensor images = at::linspace(-1, 1, 2 * config.image_size * config.image_size)
                            .view({2, 1, config.image_size, config.image_size});
    EXPECT_TRUE(logits(*loaded.model, images).equal(logits(*model, images)));
    EXPECT_EQ(loaded.data.mean, data_.mean);
    EXPECT_EQ(loaded.data.std, data_.std);
  }
}

TEST_F(ExportModel, GivesEqualBytesForEqualWeightsAndReplacesWhatIsThere) {
  auto model = model::create(testing::toy_vit(), 9);
  nlohmann::json config = complete_timm_config(*model, data_);
  std::string first = export_model(*model, config, folder_ / "model");
  EXPECT_EQ(export_model(*model, config, folder_ / "model"), first);
  auto other = model::create(testing::toy_vit(), 10);
  EXPECT_NE(export_model(*other, config, folder_ / "model"), first);
  std::size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_.path())) ++entries;
  EXPECT_EQ(entries, 1u);
}

TEST_F(ExportModel, SaysWhatItAcceptsWhenSomethingElseIsNamed) {
  try {
    load_model(folder_ / "nothing");
    FAIL() << "no ConfigError";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("exported folder"));
  }
}

TEST_F(ExportModel, NamesTheFileWhoseDescriptionIsDamaged) {
  auto model = model::create(testing::toy_vit(), 9);
  export_model(*model, complete_timm_config(*model, data_), folder_ / "model");
  write_file_atomically(folder_ / "model" / "config.json", "{\"architecture\":");
  try {
    load_model(folder_ / "model");
    FAIL() << "no DataError";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("config.json: not JSON"));
  }
}

}  // namespace
}  // namespace cosub::train
