// The stream of training microbatches, everything switched on, from JPEGs: the same pixels and targets for
// any number of ranks and threads, from any step on, with or without a cache, in the threads or on the
// device.
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <atomic>
#include <map>

#include "common/error.h"
#include "common/random.h"
#include "tests/worker/data/loader_options.h"
#include "worker/collective/reduction/partition.h"
#include "worker/data/image/encode.h"
#include "worker/data/loader.h"

namespace cosub::data {
namespace {

constexpr std::int64_t kSteps = 24, kMicrobatches = 8;

/// 96 small JPEGs of different sizes in memory.
class JpegSource : public Source {
 public:
  JpegSource() {
    for (std::int64_t i = 0; i < 96; ++i) {
      KeyedRandom random(1, Purpose::kTest, i, 0);
      Image image;
      image.reshape(30 + i % 17, 26 + i % 23, 3);
      for (std::int64_t y = 0; y < image.height; ++y) {
        for (std::int64_t x = 0; x < image.row_bytes(); ++x) {
          image.row(y)[x] = static_cast<std::uint8_t>(4 * y + (i % 5) * x + random.uniform_int(40));
        }
      }
      files_.push_back(encode_jpeg(image));
    }
  }
  std::int64_t size() const override { return static_cast<std::int64_t>(files_.size()); }
  std::int64_t channels() const override { return 3; }
  std::int64_t label(std::int64_t index) const override { return index % 10; }
  std::string name(std::int64_t index) const override { return "image " + std::to_string(index); }
  StoredImage read(std::int64_t index, ByteBuffer&) const override {
    ++reads;
    if (failures > 0 && failures-- > 0) throw IoError("the network is down", EIO);
    return {files_.at(index), std::nullopt};
  }
  mutable std::atomic<std::int64_t> reads = 0, failures = 0;

 private:
  std::vector<std::vector<std::uint8_t>> files_;
};

TrainLoader::Options everything() {
  TrainLoader::Options options = varied_options();
  config::AugmentConfig& augment = options.data.augment;
  augment.three_augment = true;
  augment.color_jitter = 0.3;
  augment.rand_augment = "rand-m9-mstd0.5-inc1";
  options.data.repeats = 2;
  options.plan = {.size = 96, .global = 16, .micro = 2, .repeats = 2};
  options.end_step = kSteps;
  options.end = kMicrobatches;
  return options;
}

std::uint64_t hash_of(const Microbatch& microbatch) {
  const at::Tensor images = microbatch.images.contiguous(), targets = microbatch.targets.contiguous();
  const std::uint64_t first = XXH3_64bits(images.const_data_ptr(), images.nbytes());
  return XXH3_64bits_withSeed(targets.const_data_ptr(), targets.nbytes(), first);
}

using Stream = std::map<std::pair<std::int64_t, std::int64_t>, std::uint64_t>;  // (step, microbatch)

void add_rank(const std::shared_ptr<const Source>& source, const TrainLoader::Options& options,
              Stream& stream) {
  TrainLoader loader(source, options);
  const std::int64_t steps = options.end_step - options.first_step;
  for (std::int64_t i = 0; i < steps * (options.end - options.begin); ++i) {
    const Microbatch microbatch = loader.next();
    EXPECT_TRUE(stream.emplace(std::pair(microbatch.step, microbatch.index), hash_of(microbatch)).second);
  }
}

Stream stream_of(const std::shared_ptr<const Source>& source, TrainLoader::Options options,
                 std::int64_t ranks) {
  Stream stream;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const collective::Range own = collective::microbatches_of(rank, ranks, kMicrobatches);
    options.begin = own.begin;
    options.end = own.end;
    add_rank(source, options, stream);
  }
  return stream;
}

class StreamTest : public ::testing::Test {
 protected:
  std::shared_ptr<const JpegSource> source_ = std::make_shared<JpegSource>();
  TrainLoader::Options options_ = everything();
  Stream whole_ = stream_of(source_, options_, 1);
};

TEST_F(StreamTest, IsTheSameForAnyNumberOfRanksAndThreads) {
  ASSERT_EQ(whole_.size(), static_cast<std::size_t>(kSteps * kMicrobatches));
  for (const std::int64_t ranks : {1, 2, 4}) {
    for (const std::int64_t threads : {1, 8}) {
      options_.data.loader_threads = threads;
      EXPECT_EQ(stream_of(source_, options_, ranks), whole_) << ranks << " ranks, " << threads << " threads";
    }
  }
}

TEST_F(StreamTest, GoesOnTheSameFromTwentyRandomSteps) {
  KeyedRandom random(2, Purpose::kTest, 0, 0);
  for (int i = 0; i < 20; ++i) {
    options_.first_step = static_cast<std::int64_t>(random.uniform_int(kSteps));
    options_.data.loader_threads = 1 + i % 3;
    const Stream rest = stream_of(source_, options_, 1 + i % 4);
    EXPECT_EQ(rest.size(), static_cast<std::size_t>((kSteps - options_.first_step) * kMicrobatches));
    for (const auto& [place, hash] : rest)
      EXPECT_EQ(hash, whole_.at(place)) << "from " << options_.first_step;
  }
}

TEST_F(StreamTest, ACacheChangesNothingButTheReads) {
  options_.data.cache_gib = 1;
  source_->reads = 0;
  EXPECT_EQ(stream_of(source_, options_, 1), whole_);
  EXPECT_LE(source_->reads, 96);
  options_.data.cache_gib = 0.0002;  // some of them
  source_->reads = 0;
  EXPECT_EQ(stream_of(source_, options_, 1), whole_);
  EXPECT_GT(source_->reads, 96);
  EXPECT_LT(source_->reads, kSteps * 16);
}

TEST_F(StreamTest, ShrinkingIsTheSameWithAndWithoutACache) {
  options_.data.shrink_px = 28;
  const Stream shrunk = stream_of(source_, options_, 1);
  EXPECT_NE(shrunk, whole_);
  options_.data.cache_gib = 1;
  EXPECT_EQ(stream_of(source_, options_, 1), shrunk);
  options_.data.shrink_px = 100;  // above every image
  EXPECT_EQ(stream_of(source_, options_, 1), whole_);
}

TEST_F(StreamTest, InputsMadeOnTheDeviceHaveTheSameBits) {
  options_.delivery = TrainLoader::Delivery::kDeviceInputs;
  EXPECT_EQ(stream_of(source_, options_, 1), whole_);
  options_.data.augment.erasing_mode = config::ErasingMode::kConst;
  const Stream on_device = stream_of(source_, options_, 1);
  options_.delivery = TrainLoader::Delivery::kInputs;
  EXPECT_EQ(stream_of(source_, options_, 1), on_device);
}

TEST_F(StreamTest, EveryTransformCounts) {
  const auto without = [&](auto change) {
    TrainLoader::Options options = everything();
    change(options.data);
    return stream_of(source_, options, 1);
  };
  EXPECT_NE(without([](config::DataConfig& data) { data.augment.crop = config::Crop::kSimple; }), whole_);
  EXPECT_NE(without([](config::DataConfig& data) { data.augment.flip = 0; }), whole_);
  EXPECT_NE(without([](config::DataConfig& data) { data.augment.three_augment = false; }), whole_);
  EXPECT_NE(without([](config::DataConfig& data) { data.augment.color_jitter = 0; }), whole_);
  EXPECT_NE(without([](config::DataConfig& data) { data.augment.rand_augment = ""; }), whole_);
  EXPECT_NE(without([](config::DataConfig& data) { data.augment.erasing = 0; }), whole_);
  EXPECT_NE(without([](config::DataConfig& data) { data.mix.mixup = 0; }), whole_);
}

TEST_F(StreamTest, AReadThatFailsIsTriedAgain) {
  source_->failures = 2;
  EXPECT_EQ(stream_of(source_, options_, 1), whole_);
  source_->failures = 3;
  EXPECT_THROW(stream_of(source_, options_, 1), IoError);
}

TEST_F(StreamTest, PixelsAreLeftAsTheyAreWhereAskedFor) {
  options_.delivery = TrainLoader::Delivery::kPixels;
  const Microbatch microbatch = make_train_microbatch(*source_, options_, 0, 0);
  EXPECT_EQ(microbatch.images.sizes(), (std::vector<std::int64_t>{2, 24, 24, 3}));
  EXPECT_EQ(microbatch.images.scalar_type(), at::kByte);
}

}  // namespace
}  // namespace cosub::data
