// Every training stage of configs/imagenet: loaded as it stands, then two steps of it, from the stage before
// where it says so, on generated photographs, with its optimizer, schedule, augmentation, loss and precision,
// at the recipe's image size; only batch, depth and length are made small.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "tests/support/temporary_folder.h"
#include "tests/worker/train/toy_stage.h"
#include "worker/collective/single_communicator.h"
#include "worker/data/image/encode.h"
#include "worker/data/image/image.h"

namespace cosub::train {
namespace {

std::vector<std::filesystem::path> recipes() {
  const char* source = std::getenv("COSUB_SOURCE_DIR");
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(source ? source : ".") / "configs/imagenet"))
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

void write_photographs(const std::filesystem::path& folder, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    data::Image image;
    image.reshape(96 + i, 128, 3);
    for (std::int64_t y = 0; y < image.height; ++y)
      for (std::int64_t x = 0; x < image.row_bytes(); ++x)
        image.row(y)[x] =
            static_cast<std::uint8_t>(128 + 100 * std::sin(0.05 * static_cast<double>(x * (i + 1) + y)));
    const auto bytes = data::encode_jpeg(image);
    const auto name = folder / (i % 2 == 0 ? "cat" : "dog") / (std::to_string(i) + ".jpg");
    std::filesystem::create_directories(name.parent_path());
    std::ofstream(name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
}

config::ArchConfig shallow(const std::string& model) {
  using List = std::vector<std::int64_t>;
  if (model.starts_with("deit3") || model.starts_with("xcit")) return {{"depth", std::int64_t{2}}};
  if (model.starts_with("resnet")) return {{"layers", List{1, 1, 1, 1}}};
  if (model.starts_with("pit")) return {{"depth", List{1, 1, 1}}};
  if (model.starts_with("swin")) return {{"depths", List{2, 2, 2, 2}}};
  if (model.starts_with("convnext")) return {{"depths", List{1, 1, 1, 1}}};
  return {};
}

class Recipe : public ::testing::TestWithParam<std::filesystem::path> {
 protected:
  config::StageFile reduced(const config::PipelineConfig& pipeline, config::StageConfig stage) {
    stage.batch.micro = 2;
    stage.batch.global = 2 * std::max<std::int64_t>(1, stage.data.repeats);
    for (const auto& [key, value] : shallow(stage.model.name)) stage.model.arch[key] = value;
    stage.model.allow_rounded_drop_rate = true;
    stage.schedule.epochs = 1;
    stage.schedule.warmup_epochs = std::min(stage.schedule.warmup_epochs, 0.5);
    const std::filesystem::path photographs = folder_ / ("photographs of " + stage.name);
    stage.data.train = {.folder = photographs};
    stage.data.val = {};
    stage.data.loader_threads = 1;
    const std::filesystem::path init_folder = stage.init.stage.empty() ? "" : folder_ / stage.init.stage;
    if (init_folder.empty()) stage.init = {};  // weights that nobody has here
    stage.threads = 2;
    stage.device = "cpu";
    stage.log_every_steps = 1;
    write_photographs(photographs, 2 * stage.batch.global);
    return {pipeline.name, pipeline.seed, folder_ / stage.name, init_folder, stage};
  }

  static std::vector<double> losses(const std::filesystem::path& csv) {
    std::ifstream in(csv);
    std::vector<double> values;
    std::string line, cell;
    std::getline(in, line);
    while (std::getline(in, line)) {
      std::istringstream cells(line);
      for (int i = 0; i < 3; ++i) std::getline(cells, cell, ',');
      values.push_back(std::stod(cell));
    }
    return values;
  }

  testing::TemporaryFolder folder_;
  collective::SingleCommunicator alone_;
};

TEST_P(Recipe, TakesTwoStepsOfEachStage) {
  const config::PipelineConfig pipeline = config::load_pipeline(GetParam());
  int trained = 0;
  for (const config::StageConfig& stage : pipeline.stages) {
    if (stage.task != config::TaskKind::kClassify) continue;
    const config::StageFile file = reduced(pipeline, stage);
    std::filesystem::create_directories(file.stage_folder);
    Telemetry telemetry("127.0.0.1", {});
    collective::SideChannel side_channel(alone_, {});
    Job job{.file = file,
            .folder = StageFolder{file.stage_folder},
            .attempt = 0,
            .stream = 1,
            .communicator = alone_,
            .device = at::kCPU,
            .telemetry = telemetry,
            .side_channel = side_channel};
    const std::shared_ptr<const data::Source> source =
        data::open_source(file.stage.data.train, 3, file.stage.model.classes);
    EXPECT_EQ(Trainer(job, source, nullptr).run(), ExitCode::kDone) << stage.name;
    const std::vector<double> found = losses(file.stage_folder / "metrics.csv");
    ASSERT_EQ(found.size(), 2u) << stage.name;
    for (const double loss : found) EXPECT_TRUE(std::isfinite(loss)) << stage.name;
    ++trained;
  }
  EXPECT_GE(trained, 1);
}

INSTANTIATE_TEST_SUITE_P(, Recipe, ::testing::ValuesIn(recipes()),
                         [](const auto& recipe) { return recipe.param.stem().string(); });

}  // namespace
}  // namespace cosub::train
