// A training stage small enough for a test: the toy set of idx_files.h, a narrow ResNet or ViT, a few steps.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "common/config/pipeline.h"
#include "common/error.h"
#include "common/random.h"
#include "common/run_folder.h"
#include "tests/support/idx_files.h"
#include "worker/collective/communicator.h"
#include "worker/data/source.h"
#include "worker/train/job.h"
#include "worker/train/telemetry.h"
#include "worker/train/trainer.h"

namespace cosub::testing {

inline config::ModelConfig toy_resnet() {
  config::ModelConfig model;
  model.name = "resnet18";
  model.classes = 4;
  model.channels = 1;
  model.image_size = 28;
  model.drop_rate = 0.25;
  model.arch["layers"] = std::vector<std::int64_t>{1, 1, 1, 1};
  model.arch["channels"] = std::vector<std::int64_t>{8, 8, 16, 16};
  model.arch["stem_type"] = "deep";
  model.arch["stem_width"] = 4;
  return model;
}

inline config::ModelConfig toy_vit() {
  config::ModelConfig model;
  model.name = "deit3_small_patch16_224";
  model.classes = 4;
  model.channels = 1;
  model.image_size = 14;
  model.drop_rate = 0.25;
  model.arch["patch_size"] = 7;
  model.arch["embed_dim"] = 32;
  model.arch["depth"] = 3;
  model.arch["num_heads"] = 2;
  return model;
}

/// 96 training images of 4 classes in 6 steps an epoch, 4 microbatches of 4 images a step; 34 validation
/// images.
inline config::StageFile toy_stage(const std::filesystem::path& data_folder,
                                   const std::filesystem::path& stage_folder,
                                   const config::ModelConfig& model, double epochs) {
  config::StageFile file;
  file.pipeline = "toy";
  file.seed = 7;
  file.stage_folder = stage_folder;
  config::StageConfig& stage = file.stage;
  stage.name = "pretrain";
  stage.model = model;
  ToyFiles train = write_toy_set(data_folder, "train", {.samples = 96, .compressed = false});
  ToyFiles val = write_toy_set(data_folder, "val", {.samples = 34, .first_sample = 96, .compressed = false});
  stage.data.train.idx = config::IdxSource{train.images, train.labels};
  stage.data.val.idx = config::IdxSource{val.images, val.labels};
  stage.data.augment.crop_padding_px = 1;
  stage.data.augment.flip = 0.5;
  stage.data.mix = {.mixup = 0.2, .cutmix = 0.2, .prob = 0.5, .switch_prob = 0.5, .smoothing = 0.0};
  stage.optimizer.lr = 5e-3;
  stage.optimizer.clip_norm = 1.0;
  stage.schedule.epochs = epochs;
  stage.schedule.warmup_epochs = 0.5;
  stage.batch = {.global = 16, .micro = 4};
  stage.ema = 0.9;
  stage.log_every_steps = 4;
  return file;
}

/// Samples of another source, some of which cannot be read.
class WithBadSamples : public data::Source {
 public:
  WithBadSamples(std::shared_ptr<const data::Source> source, std::set<std::int64_t> bad)
      : source_(std::move(source)), bad_(std::move(bad)) {}
  std::int64_t size() const override { return source_->size(); }
  std::int64_t channels() const override { return source_->channels(); }
  std::int64_t label(std::int64_t index) const override { return source_->label(index); }
  std::string name(std::int64_t index) const override { return "sample " + std::to_string(index); }
  data::StoredImage read(std::int64_t index, data::ByteBuffer& buffer) const override {
    if (bad_.contains(index)) throw DataError(name(index) + ": cut short");
    return source_->read(index, buffer);
  }

 private:
  std::shared_ptr<const data::Source> source_;
  std::set<std::int64_t> bad_;
};

/// Everything a Trainer needs, without a coordinator.
struct ToyJob {
  ToyJob(config::StageFile file, collective::Communicator& communicator)
      : telemetry("127.0.0.1", {{"rank", std::to_string(communicator.rank())}}),
        side_channel(communicator, {}),
        job{.file = file,
            .folder = StageFolder{file.stage_folder},
            .attempt = 0,
            .stream = stream_seed(file.seed, file.stage.name),
            .communicator = communicator,
            .device = at::kCPU,
            .telemetry = telemetry,
            .side_channel = side_channel},
        train(data::open_source(file.stage.data.train, file.stage.model.channels, file.stage.model.classes)),
        val(data::open_source(file.stage.data.val, file.stage.model.channels, file.stage.model.classes)) {
    std::filesystem::create_directories(file.stage_folder);
  }
  train::Trainer trainer() { return train::Trainer(job, train, val); }

  train::Telemetry telemetry;
  collective::SideChannel side_channel;
  train::Job job;
  std::shared_ptr<const data::Source> train, val;
};

}  // namespace cosub::testing
