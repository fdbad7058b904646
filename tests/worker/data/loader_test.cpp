// Training microbatches are the same whatever makes them; bad samples are replaced and counted.
#include "worker/data/loader.h"

#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <stdexcept>

#include "common/error.h"
#include "tests/support/idx_files.h"
#include "tests/support/temporary_folder.h"
#include "worker/data/eval_loader.h"

namespace cosub::data {
namespace {

using ::testing::HasSubstr;

/// Image i is 4x4 pixels of value i % 256, label i % 3; those in `bad` cannot be decoded.
class FakeSource : public Source {
 public:
  explicit FakeSource(std::int64_t size, std::set<std::int64_t> bad = {})
      : size_(size), bad_(std::move(bad)) {}
  std::int64_t size() const override { return size_; }
  std::int64_t channels() const override { return 1; }
  std::int64_t label(std::int64_t index) const override { return index % 3; }
  std::string name(std::int64_t index) const override {
    return "shard-7.tar: sample " + std::to_string(index);
  }
  StoredImage read(std::int64_t index, ByteBuffer& buffer) const override {
    ++reads;
    if (bad_.contains(index)) throw DataError(name(index) + ": cut short");
    buffer.assign(16, static_cast<std::uint8_t>(index % 256));
    return {std::span(buffer.data(), 16), StoredImage::Shape{4, 4, 1}};
  }
  mutable std::atomic<std::int64_t> reads = 0;

 private:
  std::int64_t size_;
  std::set<std::int64_t> bad_;
};

TrainLoader::Options plain_options(std::int64_t size) {
  TrainLoader::Options options;
  options.data.mean = {0.0};
  options.data.std = {1.0};
  options.classes = 3;
  options.image_size = 4;
  options.stream = 42;
  options.plan = {.size = size, .global = 8, .micro = 4};
  options.end_step = 1000;
  options.end = 2;
  return options;
}

/// The sample that fills row `row`, read off its pixels.
std::int64_t sample_in(const Microbatch& microbatch, std::int64_t row) {
  return std::lround(microbatch.images[row][0][0][0].item<float>() * 255);
}

class ToyLoader : public ::testing::Test {
 protected:
  ToyLoader() {
    const testing::ToyFiles files =
        testing::write_toy_set(folder_.path(), "train", {.samples = 100, .size_px = 12});
    source_ = open_source({.idx = config::IdxSource{files.images, files.labels}}, 1, 4);
    options_.data.augment.crop_padding_px = 2;
    options_.data.augment.flip = 0.5;
    options_.data.mix = {.mixup = 0.8, .cutmix = 1.0, .smoothing = 0.1};
    options_.classes = 4;
    options_.image_size = 14;
    options_.stream = 9;
    options_.plan = {.size = 100, .global = 24, .micro = 6};
    options_.end_step = 10;  // into the third epoch
    options_.end = 4;
  }

  testing::TemporaryFolder folder_;
  std::shared_ptr<const Source> source_;
  TrainLoader::Options options_;
};

TEST_F(ToyLoader, AnyNumberOfThreadsGivesTheSameBitsInOrder) {
  for (const std::int64_t threads : {0, 1, 3}) {
    for (const std::int64_t prefetch : {1, 4}) {
      options_.data.loader_threads = threads;
      options_.prefetch = prefetch;
      TrainLoader loader(source_, options_);
      for (std::int64_t step = 0; step < options_.end_step; ++step) {
        for (std::int64_t index = 0; index < 4; ++index) {
          const Microbatch got = loader.next();
          const Microbatch expected = make_train_microbatch(*source_, options_, step, index);
          ASSERT_EQ(got.step, step);
          ASSERT_EQ(got.index, index);
          ASSERT_TRUE(got.images.equal(expected.images)) << threads << " threads, step " << step;
          ASSERT_TRUE(got.targets.equal(expected.targets));
        }
      }
      EXPECT_THROW(loader.next(), std::logic_error);
    }
  }
}

TEST_F(ToyLoader, ARankGetsItsOwnRangeFromAnyFirstStep) {
  options_.first_step = 5;
  options_.begin = 1;
  options_.end = 3;
  TrainLoader loader(source_, options_);
  for (std::int64_t step = 5; step < 7; ++step) {
    for (std::int64_t index = 1; index < 3; ++index) {
      const Microbatch got = loader.next();
      EXPECT_EQ(got.step, step);
      EXPECT_EQ(got.index, index);
      EXPECT_TRUE(got.images.equal(make_train_microbatch(*source_, options_, step, index).images));
    }
  }
}

TEST_F(ToyLoader, ARankGetsEveryStridethOfItsRange) {
  for (const std::int64_t begin : {0, 1, 2}) {
    options_.begin = begin;
    options_.end = 4;
    options_.stride = 3;
    TrainLoader loader(source_, options_);
    for (std::int64_t step = 0; step < 2; ++step) {
      for (std::int64_t index = begin; index < 4; index += 3) {
        const Microbatch got = loader.next();
        EXPECT_EQ(got.step, step);
        EXPECT_EQ(got.index, index);
        EXPECT_TRUE(got.images.equal(make_train_microbatch(*source_, options_, step, index).images));
      }
    }
  }
}

TEST_F(ToyLoader, MicrobatchesHaveTheirShapesAndCanBeTrainedOn) {
  const Microbatch microbatch = make_train_microbatch(*source_, options_, 3, 1);
  EXPECT_EQ(microbatch.images.sizes(), (std::vector<std::int64_t>{6, 1, 14, 14}));
  EXPECT_EQ(microbatch.targets.sizes(), (std::vector<std::int64_t>{6, 4}));
  EXPECT_TRUE(microbatch.targets.sum(1).allclose(at::ones({6})));
  EXPECT_FALSE(microbatch.images.is_inference());
}

TEST_F(ToyLoader, AugmentationDoesNotDependOnTheMicrobatchsSize) {
  options_.data.mix = {};
  const at::Tensor whole = make_train_microbatch(*source_, options_, 2, 0).images;
  options_.plan.micro = 3;
  EXPECT_TRUE(make_train_microbatch(*source_, options_, 2, 0).images.equal(whole.narrow(0, 0, 3)));
  EXPECT_TRUE(make_train_microbatch(*source_, options_, 2, 1).images.equal(whole.narrow(0, 3, 3)));
}

TEST_F(ToyLoader, PaddingIsBlackBeforeNormalising) {
  options_.image_size = 12;
  options_.data.mix = {};
  options_.data.augment = {};
  options_.data.augment.crop_padding_px = 500;
  options_.data.mean = {0.25};
  options_.data.std = {0.5};
  const Microbatch microbatch = make_train_microbatch(*source_, options_, 0, 0);
  EXPECT_EQ(microbatch.images.min().item<float>(), -0.5f);  // (0 / 255 - 0.25) / 0.5
}

TEST(TrainLoader, RepeatsOfASampleAreVariedEachInItsOwnWay) {
  TrainLoader::Options options = plain_options(160);
  options.plan = {.size = 160, .global = 16, .micro = 4, .repeats = 4};
  options.end = 4;
  options.data.augment.crop_padding_px = 3;
  const FakeSource source(160);
  std::map<std::int64_t, std::vector<at::Tensor>>
      seen;  // by the pixels' value: they are black or of one value
  for (std::int64_t index = 0; index < 4; ++index) {
    const Microbatch microbatch = make_train_microbatch(source, options, 0, index);
    std::set<std::int64_t> here;
    for (std::int64_t row = 0; row < 4; ++row) {
      const std::int64_t sample = std::lround(microbatch.images[row].max().item<float>() * 255);
      if (sample == 0) continue;
      EXPECT_TRUE(here.insert(sample).second) << "twice in a microbatch";
      seen[sample].push_back(microbatch.images[row]);
    }
  }
  EXPECT_LE(seen.size(), 4u);
  int different = 0;
  for (const auto& [sample, images] : seen) {
    for (const at::Tensor& image : images) different += !image.equal(images.front());
  }
  EXPECT_GT(different, 4);
}

TEST(TrainLoader, WindowedShufflingKeepsNeighboursTogether) {
  TrainLoader::Options options = plain_options(240);
  options.data.shuffle = config::Shuffle::kWindowed;
  options.data.shuffle_block = 4;
  options.data.shuffle_blocks = 2;
  TrainLoader loader(std::make_shared<FakeSource>(240), options);
  std::set<std::int64_t> all;
  for (int step = 0; step < 30; ++step) {
    std::set<std::int64_t> blocks;
    for (int index = 0; index < 2; ++index) {
      const Microbatch microbatch = loader.next();
      for (int row = 0; row < 4; ++row) {
        blocks.insert(sample_in(microbatch, row) / 4);
        all.insert(sample_in(microbatch, row));
      }
    }
    EXPECT_EQ(blocks.size(), 2u);
  }
  EXPECT_EQ(all.size(), 240u);
}

TEST(TrainLoader, DestructionDoesNotWaitForWhatNobodyAsksFor) {
  auto fake = std::make_shared<FakeSource>(1000);
  TrainLoader::Options options = plain_options(1000);
  options.data.loader_threads = 3;
  options.prefetch = 5;
  {
    TrainLoader loader(fake, options);
    loader.next();
  }
  EXPECT_LE(fake->reads,
            6 * 4);  // of the 8,000 samples of 1,000 steps: the one taken and the five ahead of it
}

TEST(TrainLoader, AnEpochShowsEverySampleOnce) {
  auto source = std::make_shared<FakeSource>(16);
  TrainLoader loader(source, plain_options(16));
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::set<std::int64_t> seen;
    for (int k = 0; k < 4; ++k) {
      const Microbatch microbatch = loader.next();
      for (int row = 0; row < 4; ++row) {
        const std::int64_t sample = sample_in(microbatch, row);
        seen.insert(sample);
        EXPECT_EQ(microbatch.targets[row].argmax().item<std::int64_t>(), sample % 3);
      }
    }
    EXPECT_EQ(seen.size(), 16u);
  }
}

TEST(TrainLoader, ABadSampleIsReplacedByTheNextOfTheOrderAndCounted) {
  const TrainLoader::Options options = plain_options(16);
  const Microbatch good = make_train_microbatch(FakeSource(16), options, 0, 0);
  const std::int64_t bad = sample_in(good, 1), next = sample_in(good, 2);
  const Microbatch replaced = make_train_microbatch(FakeSource(16, {bad}), options, 0, 0);
  EXPECT_EQ(replaced.bad, (std::vector<BadSample>{{bad, FakeSource(16).name(bad) + ": cut short"}}));
  EXPECT_EQ(sample_in(replaced, 1), next);
  EXPECT_EQ(sample_in(replaced, 2), next);
  EXPECT_EQ(replaced.targets[1].argmax().item<std::int64_t>(), next % 3);
  EXPECT_EQ(sample_in(replaced, 3), sample_in(good, 3));
}

/// Images that no decoder takes, whose names have to be read.
class UnnamedSource : public FakeSource {
 public:
  UnnamedSource(std::int64_t size, std::set<std::int64_t> damaged)
      : FakeSource(size), damaged_(std::move(damaged)) {}
  std::string place(std::int64_t index) const override {
    return "shard-7.tar: byte " + std::to_string(512 * index);
  }
  std::string name(std::int64_t index) const override {
    ++names_read;
    hangs.wait(true);
    return FakeSource::name(index);
  }
  StoredImage read(std::int64_t index, ByteBuffer& buffer) const override {
    const StoredImage stored = FakeSource::read(index, buffer);
    return damaged_.contains(index) ? StoredImage{stored.bytes, std::nullopt} : stored;
  }
  mutable std::atomic<std::int64_t> names_read = 0;
  std::atomic<bool> hangs = false;

 private:
  std::set<std::int64_t> damaged_;
};

TEST(TrainLoader, TheNameOfABadSampleIsLookedUpOnceInAllEpochs) {
  auto source = std::make_shared<UnnamedSource>(16, std::set<std::int64_t>{5, 9});
  TrainLoader::Options options = plain_options(16);
  options.data.loader_threads = 0;
  TrainLoader loader(source, options);
  std::map<std::int64_t, int> met;
  for (int k = 0; k < 20; ++k) {
    for (const BadSample& bad : loader.next().bad) {
      ++met[bad.index];
      EXPECT_THAT(bad.reason, HasSubstr(FakeSource(16).name(bad.index) + ": "));
    }
  }
  EXPECT_GT(met[5], 3);
  EXPECT_GT(met[9], 3);
  EXPECT_EQ(source->names_read, 2);
}

TEST(TrainLoader, ANameThatCannotBeReadIsNotWaitedFor) {
  auto source = std::make_shared<UnnamedSource>(16, std::set<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  source->hangs = true;
  TrainLoader::Options options = plain_options(16);
  options.data.loader_threads = 1;
  options.data.read_timeout = std::chrono::milliseconds(20);
  try {
    TrainLoader(source, options).next();  // neither next() nor the destructor
    FAIL() << "no IoError";
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), ::testing::ContainsRegex("shard-7.tar: byte [0-9]+: still being read after"));
  }
  source->hangs = false;
  source->hangs.notify_all();
}

std::string error_of(TrainLoader& loader, int calls) {
  try {
    for (int i = 0; i < calls; ++i) loader.next();
  } catch (const DataError& error) {
    return error.what();
  }
  return "none";
}

TEST(TrainLoader, WhenNothingCanBeReadTheReasonTravelsToNext) {
  TrainLoader::Options options = plain_options(16);
  std::set<std::int64_t> all;
  for (std::int64_t i = 0; i < 16; ++i) all.insert(i);
  TrainLoader loader(std::make_shared<FakeSource>(16, all), options);
  EXPECT_THAT(error_of(loader, 1), HasSubstr("16 samples in a row cannot be read"));
  EXPECT_THAT(error_of(loader, 1), HasSubstr("16 samples in a row cannot be read"));
}

TEST(TrainLoader, AnEpochShorterThanAStepIsRefused) {
  EXPECT_THROW(TrainLoader(std::make_shared<FakeSource>(7), plain_options(7)), ConfigError);
}

/// The first batch of `count` images from image `first` on.
EvalBatch eval_batch(std::shared_ptr<const Source> source, const config::DataConfig& data, std::int64_t size,
                     std::int64_t number, std::int64_t batch_images, std::int64_t threads = 2) {
  EvalLoader::Options options{.data = data,
                              .image_size = size,
                              .num_images = source->size(),
                              .batch_images = batch_images,
                              .begin = number,
                              .end = number + 1};
  options.data.loader_threads = threads;
  return EvalLoader(std::move(source), options).next();
}

TEST(EvalLoader, KeepsTheSourcesOrderAndDrawsNothing) {
  config::DataConfig data;
  data.mean = {0.0};
  data.std = {1.0};
  data.augment.crop_padding_px = 2;
  data.augment.flip = 1.0;
  data.augment.erasing = 1.0;
  data.mix = {.mixup = 1.0};
  const EvalBatch batch = eval_batch(std::make_shared<FakeSource>(20), data, 4, 2, 3);
  EXPECT_EQ(batch.images.sizes(), (std::vector<std::int64_t>{3, 1, 4, 4}));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(batch.labels[i].item<std::int64_t>(), (6 + i) % 3);
    EXPECT_TRUE(batch.images[i].equal(at::full({1, 4, 4}, static_cast<float>(6 + i) / 255.0f)));
  }
  EXPECT_EQ(eval_batch(std::make_shared<FakeSource>(20), data, 4, 6, 3).images.size(0), 2) << "the rest";
}

TEST_F(ToyLoader, AnImageIsTheSameInEveryEvaluationBatch) {
  const at::Tensor all = eval_batch(source_, options_.data, 17, 0, 100).images;
  EXPECT_TRUE(eval_batch(source_, options_.data, 17, 31, 1).images.equal(all.narrow(0, 31, 1)));
  EXPECT_TRUE(eval_batch(source_, options_.data, 17, 3, 20, 0).images.equal(all.narrow(0, 60, 20)));
}

TEST(EvalLoader, ABadSampleIsAnErrorThatNamesIt) {
  try {
    eval_batch(std::make_shared<FakeSource>(20, std::set<std::int64_t>{7}), {}, 4, 1, 5);
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("shard-7.tar: sample 7"));
  }
}

}  // namespace
}  // namespace cosub::data
