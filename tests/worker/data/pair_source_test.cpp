// Images and masks are paired by their paths; what lacks one is named.
#include "worker/data/storage/pair_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "common/error.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

using cosub::testing::error_of;

class PairSourceTest : public ::testing::Test {
 protected:
  void write(const fs::path& path, const std::string& content) {
    fs::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path, std::ios::binary) << content;
  }
  /// Files whose content is their path.
  void touch(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) write(path, path);
  }
  /// As ADE20K has them.
  void write_set() {
    touch({"images/training/b.jpg", "images/training/a.JPG", "images/validation/a.jpg", "images/z.png",
           "annotations/training/a.png", "annotations/training/b.PNG", "annotations/validation/a.png",
           "annotations/z.png"});
  }
  PairSource open(const fs::path& list = {}, std::int64_t limit = 0) {
    return PairSource({.images = folder_ / "images",
                       .masks = folder_ / "annotations",
                       .list = list.empty() ? list : folder_ / list,
                       .limit = limit});
  }
  std::string refusal(const fs::path& list = {}, std::int64_t limit = 0) {
    return error_of([&] { open(list, limit); });
  }
  /// Below the folder.
  std::string below(const std::string& path) {
    return fs::path(path).lexically_relative(folder_.path()).string();
  }
  std::vector<std::string> names(const PairSource& source) {
    std::vector<std::string> all;
    for (std::int64_t i = 0; i < source.size(); ++i) all.push_back(below(source.name(i)));
    return all;
  }

  testing::TemporaryFolder folder_;
};

TEST_F(PairSourceTest, EveryImageComesWithTheMaskOfItsPath) {
  write_set();
  const PairSource source = open();
  EXPECT_THAT(names(source), ElementsAre("images/z.png", "images/training/a.JPG", "images/training/b.jpg",
                                         "images/validation/a.jpg"));
  std::vector<std::string> masks;
  ByteBuffer image, mask;
  for (std::int64_t i = 0; i < source.size(); ++i) {
    const StoredPair stored = source.read(i, image, mask);
    EXPECT_EQ(std::string(stored.image.begin(), stored.image.end()), below(source.name(i)));
    masks.emplace_back(stored.mask.begin(), stored.mask.end());
    EXPECT_EQ(masks.back(), below(source.mask_name(i)));
  }
  EXPECT_THAT(masks, ElementsAre("annotations/z.png", "annotations/training/a.png",
                                 "annotations/training/b.PNG", "annotations/validation/a.png"));
}

TEST_F(PairSourceTest, OtherFilesAndMasksWithoutAnImageAreLeftAlone) {
  write_set();
  touch({"images/readme.txt", "annotations/training/unused.png", "annotations/classes.json"});
  EXPECT_EQ(open().size(), 4);
}

TEST_F(PairSourceTest, NamesMayHoldDots) {
  touch({"images/v1.2.jpg", "annotations/v1.2.png", "images/v1.3.jpg", "annotations/v1.3.png"});
  EXPECT_THAT(below(open().mask_name(1)), "annotations/v1.3.png");
}

TEST_F(PairSourceTest, FoldersMayBeWrittenWithASlashAtTheirEnd) {
  write_set();
  const PairSource source({.images = folder_ / "images/", .masks = folder_ / "annotations/"});
  EXPECT_THAT(source.name(0), EndsWith("/images/z.png"));
  EXPECT_THAT(source.mask_name(1), EndsWith("/annotations/training/a.png"));
}

TEST_F(PairSourceTest, AListNamesTheSamplesAndTheirOrder) {
  write_set();
  touch({"images/unlabelled.jpg"});
  write("sets/train.txt", "validation/a\r\n\n  z \ntraining/a\n");
  EXPECT_THAT(names(open("sets/train.txt")),
              ElementsAre("images/validation/a.jpg", "images/z.png", "images/training/a.JPG"));
}

TEST_F(PairSourceTest, ALimitTakesTheFirst) {
  write_set();
  EXPECT_THAT(names(open({}, 2)), ElementsAre("images/z.png", "images/training/a.JPG"));
  EXPECT_THAT(refusal({}, 5), HasSubstr("images: 4 images with masks are there; the limit asks for 5"));
}

TEST_F(PairSourceTest, AnImageWithoutMaskIsNamedAndTheOthersCounted) {
  write_set();
  touch({"images/training/c.jpg"});
  EXPECT_THAT(refusal(), AllOf(HasSubstr("images/training/c.jpg: no mask " + folder_.path().string() +
                                         "/annotations/training/c.png; add what is missing, or name"),
                               Not(HasSubstr("more"))));
  touch({"images/training/d.jpg", "images/training/e.jpg"});
  EXPECT_THAT(refusal(), HasSubstr("annotations/training/c.png (and 2 more); add"));
}

TEST_F(PairSourceTest, EntriesOfAListThatLackAFileAreNamedWithTheirLine) {
  write_set();
  touch({"images/unlabelled.jpg", "annotations/alone.png"});
  write("list.txt", "z\nalone\n");
  EXPECT_THAT(refusal("list.txt"), AllOf(HasSubstr("list.txt:2: "), HasSubstr("images/alone: no image (.jpg"),
                                         HasSubstr("without extension")));
  write("list.txt", "z\nz.png\n");
  EXPECT_THAT(refusal("list.txt"), HasSubstr("images/z.png: no image"));
  write("list.txt", "unlabelled\n");
  EXPECT_THAT(refusal("list.txt"), AllOf(HasSubstr("list.txt:1: no mask "), HasSubstr("/unlabelled.png")));
  write("list.txt", "\n\n");
  EXPECT_THAT(refusal("list.txt"), HasSubstr("list.txt: no sample in it"));
  EXPECT_THAT(error_of<IoError>([&] { open("none.txt"); }), HasSubstr("none.txt"));
}

TEST_F(PairSourceTest, FoldersThatCannotBeAreNamed) {
  EXPECT_THAT(refusal(), HasSubstr("images: no such folder"));
  fs::create_directories(folder_ / "images");
  EXPECT_THAT(refusal(), HasSubstr("annotations: no such folder"));
  fs::create_directories(folder_ / "annotations");
  EXPECT_THAT(refusal(), HasSubstr("images: no image (.jpg"));
  touch({"images/a.jpg", "annotations/a.jpg"});
  EXPECT_THAT(refusal(), HasSubstr("annotations: no mask (.png) in it"));
  const auto twice = [&] { PairSource({.images = folder_ / "images", .masks = folder_ / "images/"}); };
  EXPECT_THAT(error_of(twice), HasSubstr("give each its own"));
}

TEST_F(PairSourceTest, TwoImagesOfOnePathAreRefused) {
  write_set();
  touch({"images/training/a.png"});
  EXPECT_THAT(refusal(), HasSubstr("images: training/a.JPG and training/a.png are two files for one sample"));
}

TEST_F(PairSourceTest, AFileThatIsGoneIsABadSample) {
  write_set();
  const PairSource source = open();
  ByteBuffer image, mask;
  fs::remove(folder_ / "annotations/training/a.png");
  fs::remove(folder_ / "images/training/b.jpg");
  EXPECT_THAT(error_of([&] { source.read(1, image, mask); }),
              HasSubstr("annotations/training/a.png: cannot open: No such file"));
  EXPECT_THAT(error_of([&] { source.read(2, image, mask); }), HasSubstr("training/b.jpg: cannot open"));
  EXPECT_EQ(source.read(0, image, mask).image.size(), std::string("images/z.png").size());
}

TEST_F(PairSourceTest, WhatCannotBeReadJustNowIsAnotherError) {
  write_set();
  const PairSource source = open();
  ByteBuffer image, mask;
  fs::remove(folder_ / "annotations/z.png");
  // A name that is too long stands for the many ways in which storage fails.
  fs::create_symlink(std::string(300, 'x'), folder_ / "annotations/z.png");
  EXPECT_THAT(error_of<IoError>([&] { source.read(0, image, mask); }), HasSubstr("annotations/z.png"));
}

}  // namespace
}  // namespace cosub::data
