// Sets packed into tar shards: the same pixels and labels come out, the bytes depend on neither threads nor
// interruptions, and what cannot be packed is named.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/process.h"
#include "tests/support/error_of.h"
#include "tests/support/idx_files.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/data/image/images.h"
#include "worker/data/image/decode.h"
#include "worker/data/image/encode.h"
#include "worker/data/pack_image.h"
#include "worker/data/resize.h"
#include "worker/data/storage/tar.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::make_photograph;
using testing::same_pixels;

constexpr std::int64_t kSamples = 40, kPerShard = 6, kShards = 7;
constexpr std::int64_t kAnyClass = 1000;

using cosub::testing::error_of;

Image decoded(const Source& source, std::int64_t index, std::int64_t channels = 3) {
  ByteBuffer buffer;
  const StoredImage stored = source.read(index, buffer);
  const StoredImage::Shape shape = shape_of(stored);
  Image image;
  decode(stored, {0, 0, shape.height, shape.width}, channels, image);
  return image;
}

std::string stored_bytes(const Source& source, std::int64_t index) {
  ByteBuffer buffer;
  const StoredImage stored = source.read(index, buffer);
  return {stored.bytes.begin(), stored.bytes.end()};
}

class Packing : public ::testing::Test {
 protected:
  Packing() {
    for (std::int64_t i = 0; i < kSamples; ++i) write_image(i);
    options_.output = folder_ / "out";
    options_.samples_per_shard = kPerShard;
    options_.threads = 2;
  }

  /// 4 classes of 10; most are colour JPEGs, some grey, PNG or PPM.
  static std::string name_of(std::int64_t i) {
    return fmt::format("class_{}/{:02}.{}", i / 10, i, i % 10 == 3 ? "png" : i % 10 == 4 ? "ppm" : "jpg");
  }
  void write_image(std::int64_t i) {
    const Image image = make_photograph(30 + i % 7, 36 - i % 5, i % 10 == 5 ? 1 : 3, i + 1);
    std::vector<std::uint8_t> bytes = i % 10 == 3   ? encode_png(image)
                                      : i % 10 == 4 ? encode_pnm(image)
                                                    : encode_jpeg(image);
    write(name_of(i), {bytes.begin(), bytes.end()});
  }
  void write(const std::string& name, const std::string& content) {
    fs::create_directories((folder_ / "set" / name).parent_path());
    std::ofstream(folder_ / "set" / name, std::ios::binary) << content;
  }

  std::unique_ptr<Source> open_set() { return open_source(set_, 0, kAnyClass); }
  PackSummary pack(const std::function<void(const PackProgress&)>& progress = nullptr) {
    const auto source = open_set();
    return pack_shards(
        set_, *source, options_, [&](std::int64_t index) { return pack_image(*source, index, options_); },
        progress);
  }
  std::unique_ptr<Source> open_packed() { return open_source({.shards = {options_.output}}, 3, kAnyClass); }

  /// Of each shard, by name.
  std::map<std::string, std::string> shards() {
    std::map<std::string, std::string> contents;
    for (const auto& entry : fs::directory_iterator(options_.output)) {
      if (entry.path().extension() == ".tar") contents[entry.path().filename()] = read_file(entry.path());
    }
    return contents;
  }
  std::vector<std::string> files_in(const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }
  /// Names of all members, shard by shard.
  std::vector<std::string> members() {
    std::vector<std::string> names;
    for (std::int64_t shard = 0; fs::exists(options_.output / fmt::format("{:06}.tar", shard)); ++shard) {
      TarReader tar(options_.output / fmt::format("{:06}.tar", shard));
      for (TarMember member; tar.next(member);) names.push_back(member.name);
    }
    return names;
  }
  /// The samples' numbers in the source, in the order of the shards.
  std::vector<std::int64_t> keys() {
    std::vector<std::int64_t> numbers;
    for (const std::string& name : members()) {
      if (name.ends_with(".cls")) numbers.push_back(std::stol(name));
    }
    return numbers;
  }

  cosub::testing::TemporaryFolder folder_;
  config::SourceConfig set_{.folder = folder_ / "set"};
  PackOptions options_;
};

TEST_F(Packing, TheSameImagesAndLabelsComeOut) {
  const PackSummary summary = pack();
  EXPECT_EQ(summary.samples(), kSamples);
  EXPECT_EQ(summary.as_they_are, kSamples);
  EXPECT_EQ(summary.shards, kShards);
  EXPECT_THAT(summary.bad, IsEmpty());
  const auto source = open_set(), packed = open_packed();
  ASSERT_EQ(packed->size(), kSamples);
  const std::vector<std::int64_t> numbers = keys();
  EXPECT_EQ(std::set(numbers.begin(), numbers.end()).size(), kSamples);
  for (std::int64_t i = 0; i < kSamples; ++i) {
    EXPECT_EQ(packed->label(i), source->label(numbers[i]));
    EXPECT_EQ(stored_bytes(*packed, i), stored_bytes(*source, numbers[i]));
    const fs::path before = source->name(numbers[i]);
    EXPECT_THAT(packed->name(i), HasSubstr(fmt::format("{:09}{}", numbers[i], before.extension().string())));
  }
  EXPECT_EQ(read_file(options_.output / "classes.txt"), "class_0\nclass_1\nclass_2\nclass_3\n");
  EXPECT_THAT(files_in(options_.output),
              ElementsAre("000000.tar", "000001.tar", "000002.tar", "000003.tar", "000004.tar", "000005.tar",
                          "000006.tar", "classes.txt", "pack.json", "shards.index"));
}

TEST_F(Packing, TheNameSaysWhatIsInTheFile) {
  const Image image = make_photograph(20, 20, 3);
  const std::vector<std::uint8_t> png = encode_png(image);
  write("class_0/00.jpg", {png.begin(), png.end()});
  options_.is_shuffled = false;
  pack();
  EXPECT_EQ(members()[1], "000000000.png");
}

TEST_F(Packing, OrderIsShuffledOrTheSources) {
  pack();
  std::vector<std::int64_t> shuffled = keys();
  EXPECT_FALSE(std::ranges::is_sorted(shuffled));
  std::set<std::int64_t> classes_of_first;
  for (std::int64_t i = 0; i < kPerShard; ++i) classes_of_first.insert(shuffled[i] / 10);
  EXPECT_GT(classes_of_first.size(), 1u);
  options_.seed = 1;
  options_.output = folder_ / "other_seed";
  pack();
  EXPECT_NE(keys(), shuffled);
  options_.is_shuffled = false;
  options_.output = folder_ / "sorted";
  pack();
  const std::vector<std::int64_t> sorted = keys();
  EXPECT_TRUE(std::ranges::is_sorted(sorted));
  std::ranges::sort(shuffled);
  EXPECT_EQ(sorted, shuffled);
}

TEST_F(Packing, BytesDoNotDependOnThreads) {
  options_.shorter_px = 24;
  options_.raw_share = 0.3;
  options_.threads = 1;
  pack();
  const auto expected = shards();
  const std::string index = read_file(options_.output / "shards.index");
  for (const std::int64_t threads : {2, 9}) {
    options_.threads = threads;
    options_.output = folder_ / fmt::format("out-{}", threads);
    pack();
    EXPECT_EQ(shards(), expected);
    EXPECT_EQ(read_file(options_.output / "shards.index").size(), index.size());
  }
}

TEST_F(Packing, StoppedAnywhereItGoesOnToTheSameBytes) {
  options_.shorter_px = 24;
  options_.raw_share = 0.3;
  write(name_of(7), "no image");
  options_.max_bad_share = 0.1;
  options_.output = folder_ / "reference";
  pack();
  const auto expected = shards();
  const std::string bad = read_file(options_.output / "bad_samples.txt");
  options_.output = folder_ / "out";
  // Several times within one packing, each time a little further.
  std::int64_t stops = 0;
  for (std::int64_t further = 0; further < 100; further = (further * 3 + 2) / 2) {
    const auto stop = [&](const PackProgress& progress) {
      if (progress.samples_now == further + 1) throw std::runtime_error("stopped");
    };
    if (error_of<std::runtime_error>([&] { pack(stop); }) != "stopped") break;
    ++stops;
    for (const auto& [name, content] : shards()) EXPECT_EQ(content, expected.at(name)) << name;
    EXPECT_FALSE(fs::exists(options_.output / "shards.index"));
    for (const std::string& name : files_in(options_.output / ".pack")) EXPECT_THAT(name, HasSubstr(".json"));
  }
  EXPECT_GT(stops, 3);
  const PackSummary summary = pack();
  EXPECT_EQ(summary.shards_before, kShards);  // the last round of the loop has finished it
  EXPECT_EQ(shards(), expected);
  EXPECT_EQ(read_file(options_.output / "bad_samples.txt"), bad);
  EXPECT_EQ(summary.samples(), kSamples - 1);
  EXPECT_FALSE(fs::exists(options_.output / ".pack"));
}

TEST_F(Packing, WhatAKilledCallLeftIsRemovedAndNotTakenForAShard) {
  pack();
  const auto expected = shards();
  fs::remove(options_.output / "000002.tar");
  fs::create_directories(options_.output / ".pack");
  // As left by process 2^22 + 1, which cannot be.
  const std::string left = fmt::format(".tmp.{}.4194305.abcdef01", host_name());
  std::ofstream(options_.output / ".pack" / ("000002.tar" + left)) << "half";
  std::ofstream(options_.output / ("pack.json" + left)) << "{";
  fs::resize_file(options_.output / "000004.tar", 1000);
  const PackSummary summary = pack();
  EXPECT_EQ(summary.shards_before, kShards - 2);
  EXPECT_EQ(shards(), expected);
  EXPECT_EQ(open_packed()->size(), kSamples);
  for (const std::string& name : files_in(options_.output)) EXPECT_THAT(name, Not(HasSubstr("tmp")));
}

TEST_F(Packing, OtherOptionsThanBeforeAreRefused) {
  pack();
  const auto before = shards();
  options_.quality = 90;
  options_.seed = 3;
  EXPECT_EQ(
      error_of<ConfigError>([&] { pack(); }),
      (options_.output / "pack.json").string() +
          ": the folder was begun with --quality 95, now 90; --seed 0, now 3. Say the former again to go on "
          "with it, or name another --output");
  options_.quality = 95;
  options_.seed = 0;
  options_.threads = 1;
  options_.max_bad_share = 0.5;
  EXPECT_FALSE(fs::exists(options_.output / ".pack"));
  EXPECT_EQ(pack().shards_before, kShards);
  write("class_3/99.jpg", "more");
  EXPECT_THAT(error_of<ConfigError>([&] { pack(); }), HasSubstr("begun with samples 40, now 41; hash of"));
  fs::remove(folder_ / "set/class_3/99.jpg");
  fs::rename(folder_ / "set/class_3/39.jpg", folder_ / "set/class_3/38b.jpg");
  EXPECT_THAT(error_of<ConfigError>([&] { pack(); }), HasSubstr("begun with hash of names and labels"));
  fs::rename(folder_ / "set/class_3/38b.jpg", folder_ / "set/class_3/39.jpg");
  fs::rename(folder_ / "set", folder_ / "moved");  // where it lies does not matter
  set_.folder = folder_ / "moved";
  EXPECT_EQ(pack().shards_before, kShards);
  EXPECT_EQ(shards(), before);
}

TEST_F(Packing, FoldersWithSomethingElseAreRefused) {
  fs::create_directories(options_.output);
  std::ofstream(options_.output / "000000.tar") << "precious";
  EXPECT_THAT(error_of<ConfigError>([&] { pack(); }),
              HasSubstr("holds 000000.tar, but no pack.json of an earlier call; name a new or empty folder"));
  EXPECT_THAT(files_in(options_.output), ElementsAre("000000.tar"));
  fs::remove(options_.output / "000000.tar");
  std::ofstream(options_.output / "pack.json") << "[]";
  EXPECT_THAT(error_of<ConfigError>([&] { pack(); }), HasSubstr("not as this program writes it"));
}

TEST_F(Packing, AFolderThatAnotherCallPacksIntoIsRefused) {
  std::string refusal;
  const auto call_again = [&](const PackProgress& progress) {
    if (progress.samples_now == kPerShard + 1) refusal = error_of<ConfigError>([&] { pack(); });
  };
  pack(call_again);
  EXPECT_THAT(refusal,
              HasSubstr(fmt::format("out: process {} on {} packs into it just now", getpid(), host_name())));
  EXPECT_EQ(open_packed()->size(), kSamples);
  EXPECT_FALSE(fs::exists(options_.output / ".pack"));
}

TEST_F(Packing, BadImagesAreLeftOutAndNamed) {
  write(name_of(7), "no image");
  const fs::path cut = folder_ / "set" / name_of(21);
  fs::resize_file(cut, fs::file_size(cut) - 100);
  options_.max_bad_share = 0.05;
  const PackSummary summary = pack();
  EXPECT_FALSE(summary.has_too_many_bad);
  EXPECT_EQ(summary.samples(), kSamples - 2);
  EXPECT_EQ(summary.bad.size(), 2u);
  const std::string named = read_file(options_.output / "bad_samples.txt");
  EXPECT_THAT(named, HasSubstr(name_of(7) + ": not a JPEG, PNG, PPM or PGM image: it is unknown data"));
  EXPECT_THAT(named, HasSubstr(name_of(21) + ": JPEG: the file is cut short (left out of 00000"));
  EXPECT_EQ(open_packed()->size(), kSamples - 2);
  EXPECT_EQ(std::ranges::count(keys(), 7), 0);
}

TEST_F(Packing, TooManyBadImagesEndItAndAHigherShareGoesOn) {
  for (const std::int64_t i : {2, 7, 21}) write(name_of(i), "no image");
  options_.max_bad_share = 0.05;
  const PackSummary early = pack();
  EXPECT_TRUE(early.has_too_many_bad);
  EXPECT_EQ(early.bad.size(), 3u);
  EXPECT_FALSE(fs::exists(options_.output / "shards.index"));
  const std::int64_t finished = static_cast<std::int64_t>(shards().size());
  EXPECT_LT(finished, kShards);
  EXPECT_TRUE(pack().has_too_many_bad);
  options_.max_bad_share = 0.1;
  const PackSummary summary = pack();
  EXPECT_FALSE(summary.has_too_many_bad);
  EXPECT_EQ(summary.shards_before, finished);
  EXPECT_EQ(summary.samples(), kSamples - 3);
}

TEST_F(Packing, AMendedImageIsPackedWithItsShardOnceThatIsRemoved) {
  write(name_of(7), "no image");
  options_.max_bad_share = 1;
  pack();
  const std::string line = read_file(options_.output / "bad_samples.txt");
  write_image(7);
  pack();
  EXPECT_TRUE(fs::exists(options_.output / "bad_samples.txt"));
  fs::remove(options_.output / line.substr(line.find("left out of ") + 12, 10));
  const PackSummary summary = pack();
  EXPECT_EQ(summary.shards_before, kShards - 1);
  EXPECT_EQ(summary.samples(), kSamples);
  EXPECT_FALSE(fs::exists(options_.output / "bad_samples.txt"));
  EXPECT_EQ(open_packed()->size(), kSamples);
}

TEST_F(Packing, AShardWithoutASampleHasNoFileAndASetWithoutOneIsAnError) {
  options_.is_shuffled = false;
  options_.max_bad_share = 1;
  for (std::int64_t i = 6; i < 12; ++i) write(name_of(i), "no image");
  const PackSummary summary = pack();
  EXPECT_EQ(summary.shards, kShards - 1);
  EXPECT_FALSE(fs::exists(options_.output / "000001.tar"));
  EXPECT_EQ(open_packed()->size(), kSamples - 6);
  EXPECT_EQ(pack().shards_before, kShards);
  for (std::int64_t i = 0; i < kSamples; ++i) write(name_of(i), "no image");
  options_.output = folder_ / "none";
  EXPECT_THAT(error_of([&] { pack(); }), HasSubstr("none of its 40 samples can be read"));
}

TEST_F(Packing, LargerImagesAreResizedAndSmallerKeepTheirBytes) {
  options_.shorter_px = 32;
  options_.is_shuffled = false;
  const PackSummary summary = pack();
  const auto source = open_set(), packed = open_packed();
  std::int64_t larger = 0;
  for (std::int64_t i = 0; i < kSamples; ++i) {
    const Image before = decoded(*source, i), after = decoded(*packed, i);
    const std::int64_t shorter = std::min(before.height, before.width);
    if (shorter <= 32) {
      EXPECT_EQ(stored_bytes(*packed, i), stored_bytes(*source, i));
      continue;
    }
    ++larger;
    EXPECT_EQ(after.height, 32 * before.height / shorter);
    EXPECT_EQ(after.width, 32 * before.width / shorter);
    Image expected;
    resize(before, after.height, after.width, config::Interpolation::kBicubic, expected);
    std::int64_t difference = 0;
    for (std::int64_t k = 0; k < after.height * after.row_bytes(); ++k)
      difference += std::abs(after.pixels[k] - expected.pixels[k]);
    // Noise of colours is what 4:2:0 loses; another image would differ by far more.
    EXPECT_LT(difference, 12 * after.height * after.row_bytes()) << source->name(i);
  }
  EXPECT_GT(larger, 5);
  EXPECT_LT(larger, kSamples - 5);
  EXPECT_EQ(summary.reencoded + summary.pixels, larger);
  EXPECT_EQ(summary.pixels, std::ranges::count_if(members(), [&](const std::string& name) {
              return name.ends_with(".ppm") && decoded(*source, std::stol(name)).height > 32 &&
                     decoded(*source, std::stol(name)).width > 32;
            }));
}

TEST_F(Packing, QualityIsOfWhatIsWrittenAnew) {
  options_.shorter_px = 20;
  const std::uint64_t fine = pack().bytes;
  options_.quality = 30;
  options_.output = folder_ / "coarse";
  EXPECT_LT(pack().bytes, fine);
}

TEST_F(Packing, GreyStaysGrey) {
  options_.shorter_px = 20;
  options_.raw_share = 0.5;
  pack();
  const auto packed = open_packed();
  ByteBuffer buffer;
  const std::vector<std::int64_t> numbers = keys();
  for (std::int64_t i = 0; i < kSamples; ++i) {
    EXPECT_EQ(read_info(packed->read(i, buffer).bytes).channels, numbers[i] % 10 == 5 ? 1 : 3);
  }
}

TEST_F(Packing, AShareIsStoredAsPixels) {
  options_.raw_share = 0.4;
  const PackSummary summary = pack();
  EXPECT_GT(summary.pixels, 8);
  EXPECT_LT(summary.pixels, 24);
  EXPECT_EQ(summary.as_they_are, kSamples - summary.pixels);
  const auto source = open_set(), packed = open_packed();
  const std::vector<std::int64_t> numbers = keys();
  std::set<std::int64_t> raw;
  ByteBuffer buffer;
  for (std::int64_t i = 0; i < kSamples; ++i) {
    EXPECT_TRUE(same_pixels(decoded(*packed, i), decoded(*source, numbers[i])));
    if (read_info(packed->read(i, buffer).bytes).format == ImageFormat::kPnm) raw.insert(numbers[i]);
  }
  // Which ones is a matter of the seed, not of the order; a larger share takes others as well.
  options_.is_shuffled = false;
  options_.raw_share = 0.7;
  options_.output = folder_ / "more";
  EXPECT_GT(pack().pixels, summary.pixels);
  const auto more = open_packed();
  for (const std::int64_t number : raw)
    EXPECT_EQ(read_info(more->read(number, buffer).bytes).format, ImageFormat::kPnm);
}

TEST_F(Packing, PixelsStayPixels) {
  const cosub::testing::ToyFiles files =
      cosub::testing::write_toy_set(folder_.path(), "toy", {.samples = 20});
  set_ = {.idx = config::IdxSource{files.images, files.labels}};
  options_.is_shuffled = false;
  EXPECT_EQ(pack().pixels, 20);
  const auto source = open_set(), packed = open_packed();
  for (std::int64_t i = 0; i < 20; ++i) {
    EXPECT_TRUE(same_pixels(decoded(*packed, i, 1), decoded(*source, i, 1)));
    EXPECT_EQ(packed->label(i), source->label(i));
  }
  EXPECT_EQ(members()[1], "000000000.pgm");
  EXPECT_FALSE(fs::exists(options_.output / "classes.txt"));
}

TEST_F(Packing, ShardsCanBePackedAgain) {
  pack();
  set_ = {.shards = {options_.output}};
  options_.output = folder_ / "again";
  options_.samples_per_shard = 11;
  const PackSummary summary = pack();
  EXPECT_EQ(summary.shards, 4);
  const auto source = open_set(), packed = open_packed();
  const std::vector<std::int64_t> numbers = keys();
  for (std::int64_t i = 0; i < kSamples; ++i) {
    EXPECT_EQ(stored_bytes(*packed, i), stored_bytes(*source, numbers[i]));
    EXPECT_EQ(packed->label(i), source->label(numbers[i]));
  }
}

TEST_F(Packing, ClassNamesComeFromTheMapWhereThereIsOne) {
  std::ofstream(folder_ / "map") << "empty\nclass_3\nclass_2\nclass_1\nclass_0\n";
  set_.class_map = folder_ / "map";
  pack();
  EXPECT_EQ(read_file(options_.output / "classes.txt"), read_file(folder_ / "map"));
  EXPECT_EQ(open_packed()->label(0), open_set()->label(keys()[0]));
}

TEST_F(Packing, AFullDiskSaysHowToGoOn) {
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{8'000, before.rlim_max};
  const auto source = open_set();
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = error_of<IoError>([&] { pack(); });
  setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, HasSubstr("cannot write " + (options_.output / ".pack/000000.tar.tmp").string()));
  EXPECT_THAT(message, HasSubstr("Of 7 shards 0 are finished; the same command goes on with the rest"));
  EXPECT_THAT(files_in(options_.output / ".pack"), IsEmpty());
  EXPECT_EQ(pack().samples(), kSamples);
}

TEST_F(Packing, FileNamesNeedNotBeText) {
  write("class_0/\xff\xfe.jpg", "no image");
  options_.max_bad_share = 1;
  EXPECT_EQ(pack().bad.size(), 1u);
  EXPECT_EQ(pack().shards_before, kShards);
}

}  // namespace
}  // namespace cosub::data
