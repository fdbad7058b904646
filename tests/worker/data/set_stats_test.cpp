// What is said of a set of images, against sets whose numbers are known.
#include "worker/data/set_stats.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "tests/support/idx_files.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/data/image/images.h"
#include "worker/data/image/encode.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

Image flat(std::int64_t height, std::int64_t width, std::vector<std::uint8_t> colour) {
  Image image;
  image.reshape(height, width, static_cast<std::int64_t>(colour.size()));
  for (std::size_t i = 0; i < static_cast<std::size_t>(height * image.row_bytes()); ++i)
    image.pixels[i] = colour[i % colour.size()];
  return image;
}

class SetStatistics : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::vector<std::uint8_t>& bytes) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << std::string(bytes.begin(), bytes.end());
  }
  SetStats stats(const StatsOptions& options = {.pixel_samples = 0}) {
    return collect_stats(*open_source(set_, 0, 1000), options, nullptr);
  }

  cosub::testing::TemporaryFolder folder_;
  config::SourceConfig set_{.folder = folder_.path()};
};

TEST_F(SetStatistics, EachImageCountsTheSameWhateverItsSize) {
  write("a/dark.png", encode_png(flat(1, 1, {0, 51, 102})));
  write("a/light.png", encode_png(flat(40, 30, {255, 51, 204})));
  const SetStats found = stats();
  EXPECT_EQ(found.pixel_samples, 2);
  ASSERT_EQ(found.mean.size(), 3u);
  EXPECT_NEAR(found.mean[0], 0.5, 1e-8);
  EXPECT_NEAR(found.mean[1], 0.2, 1e-8);
  EXPECT_NEAR(found.mean[2], 0.6, 1e-8);
  EXPECT_NEAR(found.std[0], 0.5, 1e-8);
  EXPECT_NEAR(found.std[1], 0.0, 1e-4);  // the root of a rounding error
  EXPECT_NEAR(found.std[2], 0.2, 1e-8);
}

TEST_F(SetStatistics, TheSpreadWithinAnImageCounts) {
  Image image = flat(2, 2, {0});
  image.pixels[1] = image.pixels[2] = 255;
  write("a/x.png", encode_png(image));
  const SetStats found = stats();
  EXPECT_THAT(found.mean, ElementsAre(::testing::DoubleNear(0.5, 1e-8)));
  EXPECT_THAT(found.std, ElementsAre(::testing::DoubleNear(0.5, 1e-8)));
}

TEST_F(SetStatistics, GreyImagesCountAsColourAmongColouredOnes) {
  write("a/grey.png", encode_png(flat(3, 3, {255})));
  write("a/red.png", encode_png(flat(3, 3, {255, 0, 0})));
  const SetStats found = stats();
  ASSERT_EQ(found.mean.size(), 3u);
  EXPECT_NEAR(found.mean[0], 1.0, 1e-8);
  EXPECT_NEAR(found.mean[1], 0.5, 1e-8);
  EXPECT_THAT(found.channels, ElementsAre(Pair("colour", 1), Pair("grey", 1)));
}

TEST_F(SetStatistics, SizesFormatsAndClassesAreCounted) {
  write("a/1.png", encode_png(flat(10, 20, {1, 2, 3})));
  write("a/2.jpg", encode_jpeg(flat(30, 15, {1, 2, 3})));
  write("a/3.ppm", encode_pnm(flat(50, 60, {1, 2, 3})));
  write("b/4.jpg", encode_jpeg(flat(70, 80, {9})));
  write("c/bad.jpg", {1, 2, 3});
  const SetStats found = stats();
  EXPECT_EQ(found.samples, 5);
  EXPECT_THAT(found.classes, ElementsAre(Pair(0, 3), Pair(1, 1), Pair(2, 1)));
  EXPECT_THAT(found.formats, ElementsAre(Pair("JPEG", 2), Pair("PNG", 1), Pair("PPM/PGM", 1)));
  ASSERT_EQ(found.unreadable.size(), 1u);
  EXPECT_THAT(found.unreadable[0], HasSubstr("c/bad.jpg: not a JPEG, PNG, PPM or PGM image"));
  EXPECT_EQ(found.width_px.min, 15);
  EXPECT_EQ(found.width_px.median, 20);
  EXPECT_EQ(found.width_px.max, 80);
  EXPECT_EQ(found.height_px.median, 30);
  EXPECT_EQ(found.shorter_px.min, 10);
  EXPECT_EQ(found.shorter_px.median, 15);
  EXPECT_DOUBLE_EQ(found.megapixels.max, 0.0056);
  EXPECT_EQ(found.bytes.max, 9013);  // the PPM
  std::uint64_t total = 0;
  for (const char* name : {"a/1.png", "a/2.jpg", "a/3.ppm", "b/4.jpg"})
    total += fs::file_size(folder_ / name);
  EXPECT_EQ(found.total_bytes, total);
}

TEST_F(SetStatistics, DamageBelowTheHeaderIsFoundWhereAnImageIsDecoded) {
  for (int i = 0; i < 9; ++i)
    write(fmt::format("a/{}.jpg", i), encode_jpeg(testing::make_photograph(40, 40, 3, i)));
  fs::resize_file(folder_ / "a/3.jpg", fs::file_size(folder_ / "a/3.jpg") - 100);
  const SetStats all = stats();
  ASSERT_EQ(all.unreadable.size(), 1u);
  EXPECT_THAT(all.unreadable[0], HasSubstr("a/3.jpg: JPEG: the file is cut short"));
  EXPECT_EQ(all.pixel_samples, 8);
  const SetStats some = stats({.pixel_samples = 4});
  EXPECT_EQ(some.pixel_samples + static_cast<std::int64_t>(some.unreadable.size()), 4);
  EXPECT_EQ(some.formats.at("JPEG"), 9 - static_cast<std::int64_t>(some.unreadable.size()));
}

TEST_F(SetStatistics, NothingDependsOnThreads) {
  for (int i = 0; i < 60; ++i) {
    const Image image = testing::make_photograph(20 + i % 11, 20 + i % 7, i % 5 == 0 ? 1 : 3, i);
    write(fmt::format("{}/{}.jpg", i % 3, i), encode_jpeg(image));
  }
  const SetStats one = stats({.pixel_samples = 30});
  EXPECT_EQ(one.pixel_samples, 30);
  for (const std::int64_t threads : {2, 5}) {
    const SetStats more = stats({.threads = threads, .pixel_samples = 30});
    EXPECT_EQ(more.mean, one.mean);
    EXPECT_EQ(more.std, one.std);
    EXPECT_EQ(more.total_bytes, one.total_bytes);
  }
}

TEST_F(SetStatistics, IdxFilesArePixels) {
  const cosub::testing::ToyFiles files =
      cosub::testing::write_toy_set(folder_.path(), "toy", {.samples = 12});
  set_ = {.idx = config::IdxSource{files.images, files.labels}};
  const SetStats found = stats();
  EXPECT_THAT(found.formats, ElementsAre(Pair("pixels", 12)));
  EXPECT_EQ(found.shorter_px.max, 14);
  EXPECT_EQ(found.mean.size(), 1u);
}

}  // namespace
}  // namespace cosub::data
