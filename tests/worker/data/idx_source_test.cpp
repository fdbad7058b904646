// What the IDX reader makes of good files, and what it says about bad ones.
#include "worker/data/idx_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/support/idx_files.h"
#include "tests/support/temporary_folder.h"

namespace cosub::data {
namespace {

using ::testing::HasSubstr;
using testing::idx_bytes;
using testing::write_maybe_gzip;

class IdxSource : public ::testing::Test {
 protected:
  /// Three images of 2x2 pixels and their labels; `name` ends in .gz or not.
  config::IdxSource write_good(const std::string& suffix = "") {
    const config::IdxSource files{folder_ / ("images" + suffix), folder_ / ("labels" + suffix)};
    write_maybe_gzip(files.images, idx_bytes({3, 2, 2}, {0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 255}));
    write_maybe_gzip(files.labels, idx_bytes({3}, {2, 0, 1}));
    return files;
  }

  static std::string data_error(const config::IdxSource& files, std::int64_t classes = 3,
                                std::int64_t limit = 0) {
    try {
      open_idx_source(files, limit, classes);
    } catch (const DataError& error) {
      return error.what();
    }
    return "no DataError";
  }

  testing::TemporaryFolder folder_;
};

TEST_F(IdxSource, ReadsPlainAndCompressedFilesAlike) {
  for (const std::string suffix : {"", ".gz"}) {
    const auto source = open_idx_source(write_good(suffix), 0, 3);
    ASSERT_EQ(source->size(), 3);
    EXPECT_EQ(source->channels(), 1);
    EXPECT_EQ(source->label(0), 2);
    EXPECT_EQ(source->label(2), 1);
    ByteBuffer buffer;
    const StoredImage image = source->read(2, buffer);
    EXPECT_EQ(image.pixels->height, 2);
    EXPECT_EQ(image.pixels->width, 2);
    EXPECT_THAT(image.bytes, ::testing::ElementsAre(20, 21, 22, 255));
    EXPECT_THAT(source->name(2), HasSubstr("image 2"));
  }
}

TEST_F(IdxSource, ReadsColourFromFourDimensions) {
  config::IdxSource files = write_good();
  std::vector<std::uint8_t> pixels(3 * 3 * 2 * 2);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i);
  write_maybe_gzip(files.images, idx_bytes({3, 3, 2, 2}, pixels));
  const auto source = open_idx_source(files, 0, 3);
  EXPECT_EQ(source->channels(), 3);
  ByteBuffer buffer;
  EXPECT_THAT(source->read(1, buffer).bytes,  // channels side by side
              ::testing::ElementsAre(12, 16, 20, 13, 17, 21, 14, 18, 22, 15, 19, 23));
}

TEST_F(IdxSource, LimitKeepsTheFirstSamples) {
  const auto source = open_idx_source(write_good(".gz"), 2, 3);
  EXPECT_EQ(source->size(), 2);
  ByteBuffer buffer;
  EXPECT_EQ(source->read(1, buffer).bytes.front(), 10);
}

TEST_F(IdxSource, ImagesOfAnotherNumberOfChannelsAreRefused) {
  try {
    open_source({.idx = write_good()}, 3, 3);
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("images have 1 channel; model.channels is 3"));
  }
}

TEST_F(IdxSource, LimitAboveTheFilesSizeIsRefused) {
  EXPECT_THAT(data_error(write_good(), 3, 4), HasSubstr("holds 3 images; data.*.limit asks for 4"));
}

TEST_F(IdxSource, MissingFileNamesTheRemedy) {
  config::IdxSource files = write_good();
  files.images = folder_ / "nowhere";
  EXPECT_THAT(data_error(files), HasSubstr("nowhere: no such file; correct data.*.idx"));
  files.images = "/usr/share/datasets/fashion-mnist/no-such-file.gz";
  EXPECT_THAT(data_error(files), HasSubstr("apt-get install dataset-fashion-mnist"));
  files.images = folder_.path();
  EXPECT_THAT(data_error(files), HasSubstr("is a folder"));
}

TEST_F(IdxSource, WrongMagicTypeAndDimensionsAreNamed) {
  const config::IdxSource files = write_good();
  write_maybe_gzip(files.images, "\x89PNG and so on");
  EXPECT_THAT(data_error(files), HasSubstr("begins with bytes 89 50 4e 47"));
  write_maybe_gzip(files.images, std::string("\0\0\x0d\x03 floats", 11));
  EXPECT_THAT(data_error(files), HasSubstr("IDX type 0x0d"));
  write_maybe_gzip(files.images, idx_bytes({3, 1, 1, 2, 2}, std::vector<std::uint8_t>(12)));
  EXPECT_THAT(data_error(files), HasSubstr("5 dimensions found"));
  write_maybe_gzip(files.images, idx_bytes({3, 0, 2}, {}));
  EXPECT_THAT(data_error(files), HasSubstr("dimension 1 is 0"));
  write_maybe_gzip(files.images, "");
  EXPECT_THAT(data_error(files), HasSubstr("ends after 0 bytes"));
}

TEST_F(IdxSource, SwappedFilesAreRecognised) {
  const config::IdxSource files = write_good();
  EXPECT_THAT(data_error({files.labels, files.images}), HasSubstr("Are images and labels swapped?"));
}

TEST_F(IdxSource, CountsThatDifferAreNamed) {
  const config::IdxSource files = write_good();
  write_maybe_gzip(files.labels, idx_bytes({4}, {0, 1, 2, 0}));
  EXPECT_THAT(data_error(files), ::testing::AllOf(HasSubstr("3 images"), HasSubstr("4 labels")));
}

TEST_F(IdxSource, TooFewAndTooManyBytesAreNamed) {
  for (const std::string suffix : {"", ".gz"}) {
    const config::IdxSource files = write_good(suffix);
    write_maybe_gzip(files.images, idx_bytes({3, 2, 2}, std::vector<std::uint8_t>(11)));
    EXPECT_THAT(data_error(files),
                HasSubstr("holds 11 bytes of data; its header announces shape [3, 2, 2] = 12 bytes"));
    write_maybe_gzip(files.images, idx_bytes({3, 2, 2}, std::vector<std::uint8_t>(13)));
    EXPECT_THAT(data_error(files), HasSubstr("goes on after the 12 bytes"));
  }
}

TEST_F(IdxSource, AHeaderThatAnnouncesTerabytesTakesNoMemory) {
  const config::IdxSource files = write_good(".gz");
  write_maybe_gzip(files.images, idx_bytes({0xffffffff, 0xffff, 0xffff}, {1, 2, 3}));
  EXPECT_THAT(data_error(files), HasSubstr("which cannot be"));
  write_maybe_gzip(files.images, idx_bytes({0x7fffffff, 16, 16}, {1, 2, 3}));
  EXPECT_THAT(data_error(files), HasSubstr("holds 3 bytes of data"));
}

TEST_F(IdxSource, LabelOutsideTheClassesNamesTheSample) {
  EXPECT_THAT(data_error(write_good(), 2), HasSubstr("sample 0 has label 2; model.classes is 2"));
}

TEST_F(IdxSource, LabelsBeyondTheLimitDoNotCount) {
  const config::IdxSource files = write_good();
  write_maybe_gzip(files.labels, idx_bytes({3}, {0, 1, 9}));
  EXPECT_EQ(open_idx_source(files, 2, 2)->size(), 2);
  EXPECT_THAT(data_error(files, 2), HasSubstr("sample 2 has label 9"));
}

TEST_F(IdxSource, NoDamageToACompressedFileGoesUnnoticed) {
  const config::IdxSource files = write_good(".gz");
  std::vector<std::uint8_t> pixels(3 * 16 * 16);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * i >> 3);
  write_maybe_gzip(files.images, idx_bytes({3, 16, 16}, pixels));
  const std::string good = read_file(files.images);
  const auto rewrite = [&](const std::string& content) {
    std::ofstream(files.images, std::ios::binary | std::ios::trunc) << content;
  };
  for (std::size_t cut = 1; cut < good.size(); cut += 1 + good.size() / 40) {
    rewrite(good.substr(0, good.size() - cut));
    EXPECT_NE(data_error(files), "no DataError") << cut << " bytes cut off";
  }
  int noticed = 0, harmless = 0;
  for (std::size_t at = 0; at < good.size(); at += 1 + good.size() / 100) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    rewrite(bad);
    const std::string said = data_error(files);
    if (said != "no DataError") {
      ++noticed;
      EXPECT_THAT(said, HasSubstr(files.images.string()));
      continue;
    }
    // gzip's header has fields that mean nothing to the content: time, operating system, extra flags.
    EXPECT_EQ(read_idx(files.images).bytes, pixels) << "byte " << at;
    ++harmless;
  }
  EXPECT_GT(noticed, 80);
  EXPECT_LT(harmless, 10);
}

TEST_F(IdxSource, ToySetHasTheShapeAndLabelsItPromises) {
  const testing::ToyFiles files = testing::write_toy_set(
      folder_.path(), "train", {.classes = 5, .samples = 23, .size_px = 9, .first_sample = 7});
  const auto source = open_idx_source({files.images, files.labels}, 0, 5);
  EXPECT_EQ(source->size(), 23);
  EXPECT_EQ(source->label(0), 7 % 5);
  ByteBuffer buffer;
  EXPECT_EQ(source->read(22, buffer).bytes.size(), 81u);
}

}  // namespace
}  // namespace cosub::data
