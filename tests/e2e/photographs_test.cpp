// JPEGs in folders and in tar shards: indexed, trained on with two ranks, and a damaged one is named, counted
// and replaced.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>

#include "common/atomic_file.h"
#include "common/random.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/whole_system.h"
#include "worker/data/image/encode.h"

namespace cosub::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// A picture whose colour tells its class, with noise.
std::vector<std::uint8_t> jpeg_of(std::int64_t label, std::int64_t number) {
  KeyedRandom random(1, Purpose::kTest, label, number);
  data::Image image;
  image.reshape(36 + number % 9, 44 - number % 5, 3);
  for (std::int64_t i = 0; i < image.height * image.width; ++i) {
    for (std::int64_t c = 0; c < 3; ++c) {
      const std::int64_t value = (c == label ? 170 : 70) + static_cast<std::int64_t>(random.uniform_int(50));
      image.pixels[i * 3 + c] = static_cast<std::uint8_t>(value);
    }
  }
  return data::encode_jpeg(image);
}

class Photographs : public ::testing::Test {
 protected:
  /// 3 classes of 32 images in folder SET, and the same in SET-0 and SET-1 for shards; `damage` changes
  /// bytes.
  void write_set(const std::string& set, std::int64_t num_images = 96,
                 const std::function<void(std::int64_t, std::string&)>& damage = {}) {
    for (std::int64_t i = 0; i < num_images; ++i) {
      const std::vector<std::uint8_t> bytes = jpeg_of(i % 3, i / 3);
      std::string text(bytes.begin(), bytes.end());
      if (damage) damage(i, text);
      const fs::path in_class = folder_ / set / fmt::format("class_{}", i % 3);
      fs::create_directories(in_class);
      std::ofstream(in_class / fmt::format("{:03}.jpg", i), std::ios::binary) << text;
      const fs::path flat = folder_ / fmt::format("{}-{}", set, i % 2);
      fs::create_directories(flat);
      std::ofstream(flat / fmt::format("{:03}.jpg", i), std::ios::binary) << text;
      std::ofstream(flat / fmt::format("{:03}.cls", i)) << i % 3;
    }
  }
  void pack(const std::string& set) {
    for (const int shard : {0, 1}) {
      const std::string flat = fmt::format("{}/{}-{}", folder_.path().string(), set, shard);
      ASSERT_EQ(std::system(fmt::format("tar --sort=name -C {0} -cf {0}.tar .", flat).c_str()), 0);
    }
  }
  fs::path write_pipeline(const std::string& name, int ranks, const std::string& train) {
    const fs::path file = folder_ / (name + ".yaml");
    std::ofstream(file) << fmt::format(R"(name: {}
runs: {}/runs
cluster: {{backend: mpirun, ranks: {}}}
stages:
  - name: train
    task: classify
    model:
      name: resnet18
      arch: {{layers: [1, 1, 1, 1], channels: [8, 16, 16, 16], stem_type: deep, stem_width: 4}}
      classes: 3
      image_size: 32
      drop_rate: 0.125
    data:
      train: {{{}}}
      val: {{folder: val}}
      augment: {{crop: random_resized, flip: 0.5}}
      repeats: 2
    optimizer: {{name: adamw, lr: 5e-3}}
    schedule: {{name: cosine, epochs: 6}}
    batch: {{global: 32, micro: 16}}
    ema: 0.8
  - name: export
    task: export
    init: {{stage: train}}
)",
                                       name, folder_.path().string(), ranks, train);
    return file;
  }
  ProgramResult cosub(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), program("cosub"));
    ProgramOptions options;
    options.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}};
    return run_program(arguments, options);
  }
  std::string run(const std::string& name, int ranks, const std::string& train,
                  const std::string& repeats = "2") {
    const ProgramResult result =
        cosub({"run", write_pipeline(name, ranks, train), "--set", "stages.train.data.repeats=" + repeats});
    EXPECT_EQ(result.exit_code, 0) << result.output;
    return exported_sha256(folder_ / ("runs/" + name));
  }

  /// Of all ranks and attempts of the stage that trains.
  std::string logs_of(const std::string& name) const {
    std::string logs;
    for (const auto& entry :
         fs::recursive_directory_iterator(folder_ / ("runs/" + name + "/train/attempts"))) {
      if (entry.path().extension() == ".log") logs += read_file(entry.path());
    }
    return logs;
  }

  TemporaryFolder folder_;
};

TEST_F(Photographs, FromShardsGiveTheSameBitsOnOneAndTwoRanks) {
  write_set("train");
  write_set("val");
  pack("train");
  const std::string shards = fmt::format("{}/train-{{0..1}}.tar", folder_.path().string());
  const ProgramResult unindexed =
      cosub({"run", write_pipeline("none", 1, "shards: '" + shards + "'"), "--dry-run"});
  EXPECT_THAT(unindexed.output, HasSubstr("write it with: cosub data index"));
  const ProgramResult indexed = cosub({"data", "index", shards});
  EXPECT_THAT(indexed.output, HasSubstr("96 samples in 2 shards (2 read, 0 unchanged); largest label 2"));

  const std::string one = run("one", 1, "shards: '" + shards + "'");
  EXPECT_NE(one, "");
  EXPECT_EQ(run("two", 2, "shards: '" + shards + "'"), one);
}

TEST_F(Photographs, ADamagedOneIsNamedAndReplaced) {
  write_set("train", 120);
  write_set("val");
  const fs::path victim = folder_ / "train/class_1/004.jpg";
  fs::resize_file(victim, fs::file_size(victim) / 2);
  EXPECT_NE(run("folder", 2, "folder: train"), "");
  EXPECT_THAT(logs_of("folder"),
              HasSubstr("bad sample replaced: " + victim.string() + ": JPEG: the file is cut short"));

  const ProgramResult verified = cosub({"data", "verify", "--folder", (folder_ / "train").string()});
  EXPECT_EQ(verified.exit_code, 78);
  EXPECT_THAT(verified.output,
              HasSubstr(victim.string() + ": JPEG: the file is cut short\n120 samples, 1 bad"));
  const ProgramResult good = cosub({"data", "verify", "--folder", (folder_ / "val").string()});
  EXPECT_EQ(good.exit_code, 0) << good.output;
}

TEST_F(Photographs, OnePercentDamagedAreTrainedWithoutCountedExactlyAndNamed) {
  write_set("train", 400, [](std::int64_t i, std::string& bytes) {
    if (i == 31) bytes.resize(bytes.size() / 2);
    if (i == 110) bytes.clear();
    if (i == 222) bytes = "<html>404</html>";
    if (i == 399) bytes[0] = 'x';
  });
  write_set("val");
  pack("train");
  const std::string shards = fmt::format("{}/train-{{0..1}}.tar", folder_.path().string());
  EXPECT_EQ(cosub({"data", "index", shards}).exit_code, 0);
  EXPECT_NE(run("damaged", 2, "shards: '" + shards + "'", "1"), "");

  const fs::path run_folder = folder_ / "runs/damaged";
  const std::string listed = read_file(run_folder / "train/bad_samples.tsv");
  EXPECT_EQ(std::ranges::count(listed, '\n'), 1 + 4) << listed;
  for (const char* name : {"031.jpg: JPEG: the file is cut short", "110.jpg: the file is empty",
                           "222.jpg: ", "399.jpg: not a JPEG"}) {
    EXPECT_THAT(listed, HasSubstr(name));
  }
  const std::string log = logs_of("damaged");
  std::size_t warnings = 0;
  for (std::size_t at = 0; (at = log.find("bad sample replaced", at)) != std::string::npos; ++at) ++warnings;
  EXPECT_EQ(warnings, 4u) << log;
  EXPECT_THAT(read_file(run_folder / "results.json"), HasSubstr("\"bad_samples\": 4"));
}

TEST_F(Photographs, TheOrderIsTheSameForAnyNumberOfRanks) {
  write_set("train");
  write_set("val");
  const fs::path pipeline = write_pipeline("order", 1, "folder: train");
  const auto order = [&](const char* ranks) {
    const ProgramResult result = cosub({"data", "order", pipeline, "--steps", "3", "--ranks", ranks});
    EXPECT_EQ(result.exit_code, 0) << result.output;
    return result.output;
  };
  EXPECT_THAT(order("1"),
              HasSubstr("96 samples, 3 steps an epoch, 2 microbatches of 16 rows a step, 1 rank\n"));
  EXPECT_THAT(order("2"), HasSubstr("train/class_"));
  EXPECT_THAT(cosub({"data", "order", pipeline, "--ranks", "3"}).output, HasSubstr("--ranks 3"));
}

}  // namespace
}  // namespace cosub::testing
