// Microbatches whose images a device decodes. Our own decoder stands in for nvJPEG, so that everything but
// the library itself runs on a CPU: which crops and flips, the resizing, what is left to the CPU path, bad
// samples.
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>

#include "common/error.h"
#include "tests/worker/data/image/images.h"
#include "tests/worker/data/loader_options.h"
#include "worker/data/device_resize.h"
#include "worker/data/host_decoder.h"
#include "worker/data/image/decode.h"
#include "worker/data/image/encode.h"
#include "worker/data/loader.h"
#include "worker/data/resize.h"

namespace cosub::data {
namespace {

using Bytes = std::vector<std::uint8_t>;
using ::testing::HasSubstr;

/// Files in memory.
class FileSource : public Source {
 public:
  explicit FileSource(std::vector<Bytes> files) : files_(std::move(files)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(files_.size()); }
  std::int64_t channels() const override { return 3; }
  std::int64_t label(std::int64_t index) const override { return index % 10; }
  std::string name(std::int64_t index) const override { return "file " + std::to_string(index); }
  StoredImage read(std::int64_t index, ByteBuffer& buffer) const override {
    const Bytes& file = files_.at(index);
    if (file.empty()) throw DataError(name(index) + ": gone");
    buffer.assign(file.begin(), file.end());
    return {std::span<const std::uint8_t>(buffer.data(), buffer.size()), std::nullopt};
  }

 private:
  std::vector<Bytes> files_;
};

Image photograph(std::int64_t i) {
  return testing::make_photograph(60 + i % 17, 50 + i % 23, 3, 1 + i);
}

Bytes jpeg(std::int64_t i) {
  return encode_jpeg(photograph(i), {.subsampling = i % 2 == 0 ? Subsampling::k420 : Subsampling::k444});
}

/// Its header and end are sound, but it cannot be decoded.
Bytes without_quantisation_tables(Bytes file) {
  for (std::size_t i = 0; i + 1 < file.size(); ++i) {
    if (file[i] == 0xff && file[i + 1] == 0xdb) file[i + 1] = 0xfe;  // a comment
  }
  EXPECT_TRUE(is_plain_jpeg(file));
  return file;
}

/// 48 JPEGs.
std::vector<Bytes> files() {
  std::vector<Bytes> made;
  for (std::int64_t i = 0; i < 48; ++i) made.push_back(jpeg(i));
  return made;
}

TrainLoader::Options options_for_device() {
  TrainLoader::Options options = varied_options();
  options.data.decode = config::Decode::kNvjpeg;
  options.plan = {.size = 48, .global = 16, .micro = 4};
  options.end_step = 6;  // two epochs
  options.end = 4;
  options.delivery = TrainLoader::Delivery::kDeviceInputs;
  options.make_decoder = [] { return std::make_unique<HostDecoder>(); };
  return options;
}

TrainLoader::Options on_cpu(TrainLoader::Options options) {
  options.make_decoder = nullptr;
  options.delivery = TrainLoader::Delivery::kInputs;
  return options;
}

/// Takes the files whose number is a multiple of `every`, counted over all calls; none where it is 0.
class ChoosyDecoder final : public DeviceDecoder {
 public:
  explicit ChoosyDecoder(std::int64_t every) : every_(every) {}
  std::vector<at::Tensor> decode(std::span<const EncodedRegion> files, std::int64_t channels) override {
    std::vector<at::Tensor> decoded = host_.decode(files, channels);
    for (at::Tensor& pixels : decoded) {
      if (every_ == 0 || seen_++ % every_ != 0) pixels = at::Tensor();
    }
    return decoded;
  }

 private:
  std::int64_t every_, seen_ = 0;
  HostDecoder host_;
};

std::vector<Microbatch> stream_of(const std::shared_ptr<const Source>& source,
                                  const TrainLoader::Options& options) {
  TrainLoader loader(source, options);
  std::vector<Microbatch> stream;
  const std::int64_t count = (options.end_step - options.first_step) * (options.end - options.begin);
  for (std::int64_t i = 0; i < count; ++i) stream.push_back(loader.next());
  return stream;
}

void expect_same(const std::vector<Microbatch>& a, const std::vector<Microbatch>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(a[i].images.equal(b[i].images)) << "step " << a[i].step << ", microbatch " << a[i].index;
    EXPECT_TRUE(a[i].targets.equal(b[i].targets));
    EXPECT_EQ(a[i].bad, b[i].bad);
  }
}

/// Levels of 255 by which the inputs of two streams differ, before mixing and erasing.
at::Tensor levels_between(const std::vector<Microbatch>& a, const std::vector<Microbatch>& b) {
  std::vector<at::Tensor> differences;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const at::Tensor std = at::tensor({0.229, 0.224, 0.225}, at::kFloat).view({1, 3, 1, 1});
    differences.push_back(a[i].images.sub(b[i].images).mul(std).mul(255).abs());
  }
  return at::cat(differences).flatten();
}

class DeviceDecodeTest : public ::testing::Test {
 protected:
  std::shared_ptr<const FileSource> source_ = std::make_shared<FileSource>(files());
  TrainLoader::Options options_ = options_for_device();
};

TEST_F(DeviceDecodeTest, TheStreamIsTheSameForAnyThreadsRanksAndFirstStep) {
  const std::vector<Microbatch> whole = stream_of(source_, options_);
  for (const std::int64_t threads : {0, 1, 3}) {
    options_.data.loader_threads = threads;
    expect_same(stream_of(source_, options_), whole);
  }
  options_.first_step = 4;
  expect_same(stream_of(source_, options_), {whole.begin() + 4 * 4, whole.end()});
  options_.begin = 1;
  options_.end = 2;
  expect_same(stream_of(source_, options_), {whole[4 * 4 + 1], whole[5 * 4 + 1]});
}

TEST_F(DeviceDecodeTest, WithoutResizingTheBitsAreThoseOfTheCpuPath) {
  std::vector<Bytes> square;  // some of them not for the device, in any place of a microbatch
  for (std::int64_t i = 0; i < 48; ++i) {
    const Image image = testing::make_photograph(24, 24, 3, i);
    square.push_back(i % 3 == 0 ? encode_png(image) : encode_jpeg(image));
  }
  source_ = std::make_shared<FileSource>(square);
  options_.data.augment.crop = config::Crop::kNone;
  expect_same(stream_of(source_, options_), stream_of(source_, on_cpu(options_)));
}

TEST_F(DeviceDecodeTest, CropsAndFlipsAreThoseOfTheCpuPathAndPixelsAreWithinALevel) {
  options_.data.mix = {};
  options_.data.augment.erasing = 0;
  for (const auto interpolation : {config::Interpolation::kBicubic, config::Interpolation::kBilinear}) {
    options_.data.interpolation = interpolation;
    const at::Tensor levels =
        levels_between(stream_of(source_, options_), stream_of(source_, on_cpu(options_)));
    // Seen: mean 0.16 and 0.15, 0.001 % and none above one level, none above two.
    EXPECT_LT(levels.mean().item<float>(), 0.2);
    EXPECT_LT(levels.gt(1.01).to(at::kFloat).mean().item<float>(), 1e-3);
    EXPECT_LT(levels.max().item<float>(), 2.01);
  }
}

TEST_F(DeviceDecodeTest, TargetsAndMixingAreThoseOfTheCpuPath) {
  const std::vector<Microbatch> device = stream_of(source_, options_),
                                cpu = stream_of(source_, on_cpu(options_));
  for (std::size_t i = 0; i < device.size(); ++i) EXPECT_TRUE(device[i].targets.equal(cpu[i].targets));
  // Noise that erasing wrote is the same float in both, and a mixed row stays within a level.
  EXPECT_LT(levels_between(device, cpu).mean().item<float>(), 0.2);
}

TEST_F(DeviceDecodeTest, WhatTheDecoderRefusesIsTheCpuPathsToTheBit) {
  options_.make_decoder = [] { return std::make_unique<ChoosyDecoder>(0); };
  expect_same(stream_of(source_, options_), stream_of(source_, on_cpu(options_)));
}

TEST_F(DeviceDecodeTest, ARefusedFileLeavesTheOthersOfItsBatchToTheDevice) {
  options_.data.mix = {};
  const std::vector<Microbatch> all = stream_of(source_, options_),
                                none = stream_of(source_, on_cpu(options_));
  options_.data.loader_threads = 1;
  options_.make_decoder = [] { return std::make_unique<ChoosyDecoder>(2); };
  const std::vector<Microbatch> half = stream_of(source_, options_);
  for (std::size_t i = 0; i < half.size(); ++i) {
    for (const std::int64_t row : {0, 1, 2, 3}) {
      EXPECT_TRUE(half[i].images[row].equal((row % 2 == 0 ? all : none)[i].images[row])) << i << ", " << row;
    }
  }
}

TEST_F(DeviceDecodeTest, WhatIsNoPlainJpegIsTheCpuPathsToTheBit) {
  std::vector<Bytes> other;
  for (std::int64_t i = 0; i < 48; ++i) {
    other.push_back(i % 2 == 0 ? encode_png(photograph(i))
                               : encode_jpeg(photograph(i), {.progressive = true}));
  }
  source_ = std::make_shared<FileSource>(other);
  expect_same(stream_of(source_, options_), stream_of(source_, on_cpu(options_)));
}

TEST_F(DeviceDecodeTest, BadSamplesAreThoseOfTheCpuPathInNumberOrderAndWords) {
  std::vector<Bytes> some = files();
  some[5] = {};                                             // gone
  some[6] = Bytes(some[6].begin(), some[6].begin() + 200);  // no end
  some[7] = {'G', 'I', 'F', '8', 'x'};
  some[20] = without_quantisation_tables(some[20]);  // plain by its header and end
  some[31] = encode_png(photograph(31));
  some[31].resize(some[31].size() / 2);
  source_ = std::make_shared<FileSource>(some);
  options_.data.augment.crop = config::Crop::kNone;  // reaches every damage
  const std::vector<Microbatch> device = stream_of(source_, options_),
                                cpu = stream_of(source_, on_cpu(options_));
  std::size_t num_bad = 0;
  for (std::size_t i = 0; i < device.size(); ++i) {
    EXPECT_EQ(device[i].bad, cpu[i].bad);
    EXPECT_TRUE(device[i].targets.equal(cpu[i].targets));
    num_bad += cpu[i].bad.size();
  }
  EXPECT_GE(num_bad, 2u * 5) << "two epochs with five of them";
}

TEST_F(DeviceDecodeTest, WhenNothingCanBeDecodedTheLastReasonIsTold) {
  source_ = std::make_shared<FileSource>(std::vector<Bytes>(48, Bytes{'B', 'M', 0, 0}));
  try {
    stream_of(source_, options_);
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("48 samples in a row cannot be read, the last one: file "));
    EXPECT_THAT(error.what(), HasSubstr("a BMP"));
  }
}

TEST_F(DeviceDecodeTest, AFailingDeviceEndsTheRun) {
  struct Failing : DeviceDecoder {
    std::vector<at::Tensor> decode(std::span<const EncodedRegion>, std::int64_t) override {
      throw IoError("the GPU fell off the bus");
    }
  };
  options_.make_decoder = [] { return std::make_unique<Failing>(); };
  EXPECT_THROW(stream_of(source_, options_), IoError);
}

TEST_F(DeviceDecodeTest, EachThreadHasItsDecoderAndKeepsIt) {
  std::atomic<int> made = 0;
  options_.data.loader_threads = 2;
  options_.make_decoder = [&made] {
    ++made;
    return std::make_unique<HostDecoder>();
  };
  stream_of(source_, options_);
  EXPECT_GE(made, 1);
  EXPECT_LE(made, 2);
}

TEST(DeviceResize, LargePicturesAreLeftToTheCpu) {
  EXPECT_TRUE(can_resize_on_device(3000, 3584, 224));
  EXPECT_FALSE(can_resize_on_device(20, 3585, 224));
  EXPECT_FALSE(can_resize_on_device(3585, 20, 224));
}

TEST(PlainJpeg, IsWhatEveryDecoderTakes) {
  const Image colour = testing::make_photograph(40, 30, 3), grey = testing::make_photograph(40, 30, 1);
  EXPECT_TRUE(is_plain_jpeg(encode_jpeg(colour)));
  EXPECT_TRUE(is_plain_jpeg(encode_jpeg(grey)));
  EXPECT_TRUE(is_plain_jpeg(encode_jpeg(colour, {.restart_rows = 1})));
  EXPECT_FALSE(is_plain_jpeg(encode_jpeg(colour, {.progressive = true})));
  EXPECT_FALSE(is_plain_jpeg(encode_png(colour)));
  EXPECT_FALSE(is_plain_jpeg(encode_pnm(colour)));
  EXPECT_FALSE(is_plain_jpeg({}));
  Bytes cut = encode_jpeg(colour);
  cut.resize(cut.size() - 2);
  EXPECT_FALSE(is_plain_jpeg(cut)) << "without its end";
}

TEST(PlainJpeg, IsNoDecompressionBomb) {
  Bytes bomb = encode_jpeg(testing::make_photograph(40, 30, 3));
  for (std::size_t i = 0; i + 9 < bomb.size(); ++i) {
    if (bomb[i] != 0xff || bomb[i + 1] != 0xc0) continue;
    std::memset(&bomb[i + 5], 0xf0, 4);  // 61,680 x 61,680
    break;
  }
  EXPECT_FALSE(is_plain_jpeg(bomb));
}

}  // namespace
}  // namespace cosub::data
