// `cosub data verify --masks` over sets like ADE20K and VOC: what a bad pair's line says, and what is
// counted.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>

#include "tests/support/temporary_folder.h"
#include "tests/support/whole_system.h"
#include "worker/data/image/encode.h"

namespace cosub::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::int64_t kHeight = 30, kWidth = 40;

class SegmentationPairs : public ::testing::Test {
 protected:
  using ValueAt = std::function<std::int64_t(std::int64_t row, std::int64_t column)>;

  static data::Image picture(std::int64_t height, std::int64_t width, std::int64_t channels,
                             const ValueAt& value) {
    data::Image image;
    image.reshape(height, width, channels);
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t i = 0; i < width * channels; ++i)
        image.row(y)[i] = static_cast<std::uint8_t>(value(y, i / channels));
    }
    return image;
  }
  void write(const fs::path& path, const std::vector<std::uint8_t>& bytes) {
    fs::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  void write_image(const std::string& stem) {
    const auto gradient = [](std::int64_t y, std::int64_t x) { return 3 * y + 2 * x; };
    write("images/" + stem + ".jpg", data::encode_jpeg(picture(kHeight, kWidth, 3, gradient)));
  }
  void write_mask(const std::string& stem, const ValueAt& value, std::int64_t height = kHeight) {
    write("masks/" + stem + ".png", data::encode_png(picture(height, kWidth, 1, value)));
  }
  /// Ten good pairs in two folders: a third of the rows is 0, a third 1, a third 3.
  void write_set() {
    for (int i = 0; i < 10; ++i) {
      const std::string stem = fmt::format("{}/{:03}", i < 8 ? "training" : "validation", i);
      write_image(stem);
      write_mask(stem, [](std::int64_t y, std::int64_t) { return y < 10 ? 0 : y < 20 ? 1 : 3; });
    }
  }
  ProgramResult verify(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {program("cosub"), "data",  "verify",    "--folder", "images",
                                          "--masks",        "masks", "--threads", "3"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    ProgramOptions options;
    options.working_directory = folder_.path();
    return run_program(arguments, options);
  }

  TemporaryFolder folder_;
};

TEST_F(SegmentationPairs, GoodOnesAreCountedByClass) {
  write_set();
  const ProgramResult result = verify({"--classes", "5"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output,
            "10 pairs, 0 bad\n"
            "12000 pixels, 0.00 % ignored; 3 classes occur\n"
            "   class           pixels       share\n"
            "       0             4000   33.3333 %\n"
            "       1             4000   33.3333 %\n"
            "       3             4000   33.3333 %\n"
            "no pixel: 2 of 5 classes (2, 4)\n");
}

TEST_F(SegmentationPairs, ZeroMayBeIgnoredAsInAde20k) {
  write_set();
  const ProgramResult result = verify({"--classes", "3", "--zero-is-ignored"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output,
            "10 pairs, 0 bad\n"
            "12000 pixels, 33.33 % ignored; 2 classes occur (class 0 is the masks' value 1)\n"
            "   class           pixels       share\n"
            "       0             4000   50.0000 %\n"
            "       2             4000   50.0000 %\n"
            "no pixel: 1 of 3 classes (1)\n");
}

TEST_F(SegmentationPairs, EachBadOneIsNamedWithWhatIsWrong) {
  write_set();
  const auto class_one = [](std::int64_t, std::int64_t) { return 1; };
  write_mask("training/001", class_one, kHeight + 2);
  write_mask("training/003", [](std::int64_t y, std::int64_t x) {
    return y == 7 && x >= 31 && x < 34 ? 5 : x == 0 ? 255 : 0;
  });
  write("masks/training/004.png", data::encode_png(picture(kHeight, kWidth, 3, class_one)));
  fs::resize_file(folder_ / "masks/training/005.png", 60);
  fs::resize_file(folder_ / "images/training/006.jpg", 300);
  const ProgramResult result = verify({"--classes", "5"});
  EXPECT_EQ(result.exit_code, 78);
  EXPECT_EQ(
      result.output,
      "masks/training/001.png: a mask of 40 x 32 pixels for an image of 40 x 30: "
      "images/training/001.jpg\n"
      "masks/training/003.png: the value 5 at row 7, column 31 (and 2 more pixels) is no class: 0 to 4 "
      "are, and 255 is ignored\n"
      "masks/training/004.png: a PNG in RGB, 8 bits a channel, is no mask: expected is one class number "
      "per pixel, as greyscale of 1 to 16 bits or as a palette's index. Convert colours to class numbers "
      "first\n"
      "masks/training/005.png: PNG: the file is cut short\n"
      "images/training/006.jpg: JPEG: the file is cut short\n"
      "10 pairs, 5 bad\n"
      "6000 pixels, 0.00 % ignored; 3 classes occur\n"
      "   class           pixels       share\n"
      "       0             2000   33.3333 %\n"
      "       1             2000   33.3333 %\n"
      "       3             2000   33.3333 %\n"
      "no pixel: 2 of 5 classes (2, 4)\n");
}

TEST_F(SegmentationPairs, AnotherValueMayBeIgnored) {
  write_set();
  EXPECT_THAT(verify({"--classes", "3"}).output,
              HasSubstr("the value 3 at row 20, column 0 (and 399 more pixels) is no class: 0 to 2 are"));
  const ProgramResult result = verify({"--classes", "3", "--ignore-label", "3"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.output, HasSubstr("12000 pixels, 33.33 % ignored; 2 classes occur"));
}

TEST_F(SegmentationPairs, OfManyClassesTheMostFrequentAndTheRarestAreShown) {
  write_image("a");
  // Class k has 2k + 1 pixels, 0 <= k < 30, and the rest is ignored.
  write_mask("a", [](std::int64_t y, std::int64_t x) {
    const auto k = static_cast<std::int64_t>(std::sqrt(static_cast<double>(y * kWidth + x)));
    return k < 30 ? k : 255;
  });
  EXPECT_THAT(verify({"--classes", "60"}).output,
              HasSubstr("1200 pixels, 25.00 % ignored; 30 classes occur\n"
                        "   class           pixels       share\n"
                        "      29               59    6.5556 %\n"
                        "      28               57    6.3333 %\n"
                        "      27               55    6.1111 %\n"
                        "      26               53    5.8889 %\n"
                        "      25               51    5.6667 %\n"
                        "     ...\n"
                        "       4                9    1.0000 %\n"
                        "       3                7    0.7778 %\n"
                        "       2                5    0.5556 %\n"
                        "       1                3    0.3333 %\n"
                        "       0                1    0.1111 %\n"
                        "no pixel: 30 of 60 classes (30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, "
                        "43, 44, 45, 46, 47, 48, 49, ...)\n"));
  EXPECT_THAT(verify({}).output, AllOf(HasSubstr("30 classes occur"), Not(HasSubstr("no pixel"))));
}

TEST_F(SegmentationPairs, AListMayNameThemAsVocDoes) {
  write_set();
  write_image("training/unlabelled");
  const ProgramResult all = verify({});
  EXPECT_EQ(all.exit_code, 78);
  EXPECT_THAT(all.output,
              HasSubstr("images/training/unlabelled.jpg: no mask masks/training/unlabelled.png; add what is "
                        "missing, or name the samples to use in a list"));
  std::ofstream(folder_ / "train.txt") << "training/002\nvalidation/009\n";
  const ProgramResult listed = verify({"--list", "train.txt"});
  EXPECT_EQ(listed.exit_code, 0);
  EXPECT_THAT(listed.output, HasSubstr("2 pairs, 0 bad\n"));
  std::ofstream(folder_ / "train.txt") << "training/002\ntraining/missing\n";
  const ProgramResult missing = verify({"--list", "train.txt"});
  EXPECT_EQ(missing.exit_code, 78);
  EXPECT_THAT(missing.output, HasSubstr("train.txt:2: images/training/missing: no image"));
}

TEST_F(SegmentationPairs, OptionsThatDoNotGoTogetherAreRefused) {
  const ProgramResult shards = verify({"--shards", "x.tar"});
  EXPECT_EQ(shards.exit_code, 64);
  EXPECT_THAT(shards.output, HasSubstr("--shards"));
  const ProgramResult alone =
      run_program({program("cosub"), "data", "verify", "--folder", folder_.path(), "--zero-is-ignored"});
  EXPECT_EQ(alone.exit_code, 64);
  EXPECT_THAT(alone.output, HasSubstr("--masks"));
}

}  // namespace
}  // namespace cosub::testing
