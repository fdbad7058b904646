#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "common/config/scalar.h"
#include "common/config/schema.h"
#include "common/config/yaml.h"
#include "common/random.h"
#include "tests/common/config/pipelines.h"
#include "tests/support/temporary_folder.h"

namespace cosub::config {
namespace {

using std::chrono::milliseconds;

/// A stage in which every field differs from its default.
StageConfig unusual_stage() {
  StageConfig stage;
  stage.name = "odd_one.2";
  stage.after = {"first", "true"};
  stage.init = {"first", "", "model", "replace", 0.001};
  stage.model = {"resnet18", 7,    1, 29, 1.0 / 3, DropRateRule::kLinear, StochasticDepth::kBernoulli,
                 true,       true, {}};
  stage.model.arch = {{"patch_size", 7},
                      {"depth", std::vector<std::int64_t>{1, 2}},
                      {"num_heads", 6},
                      {"mlp_ratio", 2.5},
                      {"eta", 1e-5},
                      {"tokens_norm", true},
                      {"layers", std::vector<std::int64_t>{3}},
                      {"stem_type", ""}};
  stage.data.train = {.idx = IdxSource{"/a b/images: #1", "/a/\"labels\""}, .limit = 11};
  stage.data.val = {.folder = "/é", .list = "/'x'", .class_map = "/y: z", .limit = 12};
  stage.data.shuffle = Shuffle::kWindowed;
  stage.data.shuffle_block = 3;
  stage.data.shuffle_blocks = 4;
  stage.data.repeats = 3;
  stage.data.interpolation = Interpolation::kBilinear;
  stage.data.crop_ratio = 0.875;
  stage.data.mean = {0.1};
  stage.data.std = {1e-300};
  stage.data.augment = {.scale = {0.2, 0.9},
                        .ratio = {1.0, 2.0},
                        .crop_padding_px = 3,
                        .flip = 0.1,
                        .three_augment = true,
                        .color_jitter = 0.3,
                        .rand_augment = "rand-m9-mstd0.5-inc1",
                        .erasing = 0.25,
                        .erasing_mode = ErasingMode::kConst};
  stage.data.shrink_px = 256;
  stage.data.cache_gib = 1.5;
  stage.data.read_timeout = milliseconds(90000);
  stage.data.mix = {0.8, 1e-17, 0.9, 0.25, 0.1};
  stage.data.max_bad_share = 0.3;
  stage.data.loader_threads = 5;
  stage.cosub = {false, 0.7, 0.1, 1.5, LossKind::kBce, BceReduction::kSum, Targets::kBinarize, false};
  stage.optimizer = {.name = "lamb",
                     .lr = 0.3,
                     .weight_decay = 0.06,
                     .beta1 = 0.91,
                     .beta2 = 0.9999999999999999,
                     .eps = 1e22,
                     .clip_norm = 1.5,
                     .max_grad_norm = 2.5,
                     .layer_decay = 0.75};
  stage.schedule = {.name = "step",
                    .epochs = 2.5,
                    .warmup_epochs = 0.25,
                    .warmup_lr = 5e-324,
                    .decay_epochs = 7.5,
                    .decay_rate = 0.3};
  stage.batch = {96, 32};
  stage.ema = 0.99996;
  stage.ema_warmup = false;
  stage.checkpoint = {milliseconds(1234), 17, 9, milliseconds(99)};
  stage.reduction = Reduction::kFast;
  stage.exchange = {false, 2.5, Compress::kBf16, true};
  stage.precision = Precision::kBf16;
  stage.non_finite = NonFinite::kSkip;
  stage.check_parameters_every_steps = 17;
  stage.threads = 3;
  stage.device = "cuda";
  stage.cuda_graph = false;
  stage.attention = AttentionBackend::kEfficient;
  stage.log_every_steps = 11;
  stage.collective_timeout = milliseconds(90'000);
  stage.submodels = {{"a", "0,2,5", BranchScale::kTrain}, {"b", "first:3", BranchScale::kOne}};
  return stage;
}

/// What other values exclude.
void set_other_rules(StageConfig& stage) {
  stage.optimizer = {.name = "sgd", .lr = 0.3, .weight_decay = 1e-4, .momentum = 0.8, .nesterov = false};
  stage.schedule = {.name = "linear", .epochs = 2.5, .min_lr = 1e-5};
  stage.cosub.loss = LossKind::kCe;
  stage.cosub.bce_reduction = BceReduction::kMean;
  stage.cosub.targets = Targets::kSoft;
}

void set_shards_and_crop(StageConfig& stage) {
  stage.data.train.idx.reset();
  stage.data.train.shards = {"/d/{000..127}.tar", "/e e/*.tar"};
  stage.data.augment.crop = Crop::kSimple;
  stage.data.augment.crop_padding_px = 0;
}

void set_nvjpeg(StageConfig& stage) {
  stage.data.decode = Decode::kNvjpeg;
  stage.data.train.idx.reset();
  stage.data.train.folder = "/images";
  stage.data.augment = {.crop = Crop::kRandomResized, .flip = 0.1, .erasing = 0.25};
  stage.data.shrink_px = 0;
  stage.data.cache_gib = 0;
}

PipelineConfig unusual_pipeline() {
  PipelineConfig pipeline;
  pipeline.name = "n0";
  pipeline.seed = std::numeric_limits<std::uint64_t>::max();
  pipeline.runs = "some where/runs";
  pipeline.cluster = {
      "mpirun",       3, {"a:2", "b"}, 1, milliseconds(1), milliseconds(2), milliseconds(3), milliseconds(4),
      milliseconds(5)};
  StageConfig first = unusual_stage();
  first.name = "first";
  first.after.clear();
  first.init = {};
  StageConfig second = unusual_stage();
  second.model.classes = 8;
  StageConfig other = first;
  other.name = "true";
  other.init = {"", "/w.safetensors", "ema", "keep"};
  set_shards_and_crop(other);
  set_other_rules(other);
  StageConfig on_gpu = first;
  on_gpu.name = "on_gpu";
  set_nvjpeg(on_gpu);
  pipeline.stages = {first, second, other, on_gpu};
  return pipeline;
}

TEST(ConfigRoundTrip, OfAPipelineIsExact) {
  const PipelineConfig pipeline = unusual_pipeline();
  const PipelineConfig again = parse_pipeline(to_yaml(pipeline), "again", "/other");
  EXPECT_TRUE(again == pipeline) << to_yaml(pipeline) << "\n became \n" << to_yaml(again);
  EXPECT_EQ(to_yaml(again), to_yaml(pipeline));
}

TEST(ConfigRoundTrip, OfResolvedPipelinesIsExact) {
  for (const std::string& yaml :
       {kValid, with("ema: 0.99", "ema: 0"), with("image_size: 28", "arch: {layers: [1, 1]}")}) {
    const PipelineConfig pipeline = parse(yaml);
    EXPECT_TRUE(parse_pipeline(to_yaml(pipeline), "again", "/other") == pipeline) << to_yaml(pipeline);
  }
}

/// How many keys of the two trees hold different values; both have the same keys.
int count_differences(const Tree& a, const Tree& b) {
  int count = 0;
  for (const TreeEntry& entry : a.entries) {
    const Tree* const other = b.find(entry.key);
    if (entry.value.kind == Tree::Kind::kMap && other != nullptr) {
      count += count_differences(entry.value, *other);
    } else if (other == nullptr || print_flow(*other) != print_flow(entry.value)) {
      ++count;
    } else {
      ADD_FAILURE() << entry.key << " has its default: unusual_stage() should change it";
    }
  }
  return count;
}

TEST(ConfigRoundTrip, IsTestedWithEveryFieldOfAStage) {
  StageConfig stage = unusual_stage();
  stage.task = TaskKind::kEvaluate;
  stage.data.decode = Decode::kNvjpeg;  // of training it excludes most of the others
  stage.sync_batchnorm = 2;             // which cannot be together with Bernoulli stochastic depth
  stage.cosub.loss = LossKind::kCe;
  stage.optimizer.momentum = 0.8;
  stage.optimizer.nesterov = false;
  stage.schedule.min_lr = 1e-5;
  const AugmentConfig padded = stage.data.augment;
  set_shards_and_crop(stage);
  stage.data.train = unusual_stage().data.train;
  for (SourceConfig* const source : {&stage.data.train, &stage.data.val}) source->shards = {"/d/a.tar"};
  stage.data.augment.crop_padding_px = padded.crop_padding_px;
  const Tree tree = stage_fields().write(stage, Keys::kAll);
  EXPECT_GT(count_differences(tree, stage_fields().write(StageConfig(), Keys::kAll)), 60);
}

TEST(ConfigRoundTrip, OfAStageFileIsExact) {
  const cosub::testing::TemporaryFolder folder;
  const StageFile stage{"pipe", 42, "/runs/pipe/odd_one.2", "/runs/pipe/first", unusual_stage()};
  std::ofstream(folder / "stage.yaml") << to_yaml(stage);
  const StageFile again = load_stage_file(folder / "stage.yaml");
  EXPECT_EQ(again.pipeline, stage.pipeline);
  EXPECT_EQ(again.seed, stage.seed);
  EXPECT_EQ(again.stage_folder, stage.stage_folder);
  EXPECT_EQ(again.init_folder, stage.init_folder);
  EXPECT_TRUE(again.stage == stage.stage) << to_yaml(again);
  EXPECT_EQ(load_stage_file(folder / "stage.yaml", {"stage.threads=9"}).stage.threads, 9);
}

TEST(ConfigRoundTrip, AStageFileOfAnInitialisedStageNeedsItsFolder) {
  const cosub::testing::TemporaryFolder folder;
  std::ofstream(folder / "stage.yaml") << to_yaml(StageFile{"pipe", 42, "/runs/pipe/x", "", unusual_stage()});
  try {
    load_stage_file(folder / "stage.yaml");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("init_folder: found nothing beside stage.init.stage"));
  }
}

TEST(ConfigRoundTrip, OfDoublesIsExact) {
  KeyedRandom random(1, Purpose::kTest, 0, 0);
  for (int i = 0; i < 10000; ++i) {
    const std::uint64_t bits = random.next_u64();
    double value;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(read_double(double_text(value)), value);
  }
}

}  // namespace
}  // namespace cosub::config
