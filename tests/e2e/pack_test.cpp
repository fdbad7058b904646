// `cosub data pack` and `cosub data stats` as people call them: killed in the middle, refused, read by other
// programs, trained on.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/whole_system.h"
#include "tests/worker/data/image/images.h"
#include "worker/data/image/encode.h"

namespace cosub::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

class PackCommand : public ::testing::Test {
 protected:
  /// So many JPEGs of about size_px in 3 classes, one after the other.
  void write_set(std::int64_t images, std::int64_t size_px) {
    for (std::int64_t i = 0; i < images; ++i) {
      const data::Image image = testing::make_photograph(size_px + i % 9, size_px - i % 5, 3, i + 1);
      const std::vector<std::uint8_t> bytes = data::encode_jpeg(image);
      std::ofstream(path_of(i), std::ios::binary) << std::string(bytes.begin(), bytes.end());
    }
  }
  fs::path path_of(std::int64_t i) {
    const fs::path folder = folder_ / fmt::format("set/class_{}", i % 3);
    fs::create_directories(folder);
    return folder / fmt::format("{:03}.jpg", i);
  }
  std::vector<std::string> pack_command(const std::string& output, std::vector<std::string> more = {}) {
    std::vector<std::string> command = {program("cosub"), "data",     "pack",          "--folder",
                                        folder_ / "set",  "--output", folder_ / output};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }
  ProgramResult pack(const std::string& output, const std::vector<std::string>& more = {}) {
    return run_program(pack_command(output, more));
  }
  /// SHA-256 of each file with a shard's name.
  std::map<std::string, std::string> shards(const std::string& output) {
    std::map<std::string, std::string> hashes;
    if (!fs::exists(folder_ / output)) return hashes;
    for (const auto& entry : fs::directory_iterator(folder_ / output)) {
      if (entry.path().extension() == ".tar") hashes[entry.path().filename()] = sha256_file(entry.path());
    }
    return hashes;
  }

  TemporaryFolder folder_;
};

TEST_F(PackCommand, KilledAgainAndAgainItGivesTheSameShards) {
  write_set(160, 200);
  const std::vector<std::string> options = {"--samples-per-shard", "4",   "--shorter", "96",
                                            "--raw-share",         "0.2", "--threads"};
  const auto with_threads = [&](const char* threads) {
    std::vector<std::string> all = options;
    all.push_back(threads);
    return all;
  };
  const ProgramResult whole = pack("whole", with_threads("2"));
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  const auto expected = shards("whole");
  ASSERT_EQ(expected.size(), 40u);
  for (const std::size_t until : {1u, 2u, 11u, 24u}) {
    Background packing(pack_command("out", with_threads("1")), folder_ / "output");
    const auto end = std::chrono::steady_clock::now() + 120s;
    const auto enough = [&] { return fs::exists(folder_ / fmt::format("out/{:06}.tar", until - 1)); };
    while (!enough() && std::chrono::steady_clock::now() < end && !packing.wait(1ms)) {
    }
    packing.signal(SIGKILL);
    ASSERT_EQ(packing.wait(10s), 128 + SIGKILL) << packing.output();
    for (const auto& [name, hash] : shards("out")) EXPECT_EQ(hash, expected.at(name)) << name;
  }
  ASSERT_LT(shards("out").size(), 40u);
  const ProgramResult rest = pack("out", with_threads("2"));
  EXPECT_EQ(rest.exit_code, 0) << rest.output;
  EXPECT_EQ(shards("out"), expected);
  EXPECT_THAT(rest.output, HasSubstr("160 samples in 40 shards ("));
  EXPECT_FALSE(fs::exists(folder_ / "out/.pack"));
  EXPECT_EQ(read_file(folder_ / "out/pack.json"), read_file(folder_ / "whole/pack.json"));
}

TEST_F(PackCommand, OtherProgramsReadTheShards) {
  write_set(30, 40);
  ASSERT_EQ(pack("out", {"--samples-per-shard", "20"}).exit_code, 0);
  const ProgramResult listed = run_program({"tar", "tf", folder_ / "out/000001.tar"});
  EXPECT_EQ(listed.exit_code, 0);
  EXPECT_EQ(std::ranges::count(listed.output, '\n'), 20);
  // As WebDataset groups them: neighbours with the same name up to the first dot.
  const ProgramResult grouped = run_program(
      {"python3", "-c",
       "import glob, itertools, sys, tarfile\n"
       "images = {}\n"
       "for shard in sorted(glob.glob(sys.argv[1] + '/*.tar')):\n"
       "    tar = tarfile.open(shard)\n"
       "    for key, group in itertools.groupby(tar, lambda m: m.name.split('.', 1)[0]):\n"
       "        sample = {m.name.split('.', 1)[1]: tar.extractfile(m).read() for m in group}\n"
       "        i, label = int(key), int(sample['cls'])\n"
       "        name = open(sys.argv[1] + '/classes.txt').read().split()[label]\n"
       "        images[name, sample['jpg']] = i\n"
       "wanted = {(f.split('/')[-2], open(f, 'rb').read()) for f in glob.glob(sys.argv[2] + '/*/*.jpg')}\n"
       "print(len(images), set(images) == wanted, sorted(images.values()) == list(range(30)))\n",
       folder_ / "out", folder_ / "set"});
  EXPECT_EQ(grouped.output, "30 True True\n");
  const ProgramResult verified =
      run_program({program("cosub"), "data", "verify", "--shards", folder_ / "out", "--classes", "3"});
  EXPECT_EQ(verified.output, "30 samples, 0 bad\n");
}

TEST_F(PackCommand, OtherOptionsAndOtherFoldersAreRefused) {
  write_set(6, 40);
  ASSERT_EQ(pack("out", {"--shorter", "32"}).exit_code, 0);
  const ProgramResult other = pack("out", {"--shorter", "33"});
  EXPECT_EQ(other.exit_code, 78);
  EXPECT_THAT(other.output, HasSubstr("out/pack.json: the folder was begun with --shorter 32, now 33"));
  EXPECT_THAT(pack("set").output, HasSubstr("set: holds class_"));
  EXPECT_EQ(pack("set").exit_code, 78);
  EXPECT_EQ(pack("out2", {"--quality", "101"}).exit_code, 64);
  const ProgramResult none = run_program({program("cosub"), "data", "pack", "--output", folder_ / "out3"});
  EXPECT_EQ(none.exit_code, 78);
  EXPECT_THAT(none.output, HasSubstr("--folder, --shards, or --images and --labels"));
  EXPECT_FALSE(fs::exists(folder_ / "out3"));
}

TEST_F(PackCommand, BadImagesAreNamedAndTooManyOfThemEndIt) {
  write_set(40, 40);
  for (const std::int64_t i : {5, 17}) std::ofstream(path_of(i)) << "<html>";
  const ProgramResult refused = pack("out");
  EXPECT_EQ(refused.exit_code, 78);
  EXPECT_THAT(refused.output, HasSubstr("error: 1 sample cannot be read, more than --max-bad-share 0.01"));
  const ProgramResult packed = pack("out", {"--max-bad-share", "0.05"});
  EXPECT_EQ(packed.exit_code, 0) << packed.output;
  EXPECT_THAT(packed.output, HasSubstr("left out: " + path_of(5).string() + ": not a JPEG"));
  EXPECT_THAT(packed.output, HasSubstr("38 as they are, 0 re-encoded, 0 as pixels, 2 left out"));
  EXPECT_THAT(read_file(folder_ / "out/bad_samples.txt"), HasSubstr(path_of(17).string()));
}

TEST_F(PackCommand, PackedShardsAreTrainedOn) {
  write_set(48, 40);
  ASSERT_EQ(pack("train", {"--shorter", "34", "--raw-share", "0.3", "--samples-per-shard", "10"}).exit_code,
            0);
  const fs::path file = folder_ / "packed.yaml";
  std::ofstream(file) << fmt::format(R"(name: packed
runs: {}/runs
cluster: {{backend: mpirun, ranks: 2}}
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
      train: {{shards: train}}
      val: {{folder: set}}
      augment: {{crop: random_resized}}
    optimizer: {{name: adamw, lr: 5e-3}}
    schedule: {{name: cosine, epochs: 1}}
    batch: {{global: 16, micro: 8}}
)",
                                     folder_.path().string());
  ProgramOptions as_root;
  as_root.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}};
  const ProgramResult run = run_program({program("cosub"), "run", file}, as_root);
  EXPECT_EQ(run.exit_code, 0) << run.output;
}

TEST_F(PackCommand, StatsAreATableOrJson) {
  write_set(31, 40);
  std::ofstream(path_of(4)) << "<html>";
  const ProgramResult text = run_program({program("cosub"), "data", "stats", "--folder", folder_ / "set"});
  EXPECT_EQ(text.exit_code, 0);
  for (const std::string part :
       {"samples   31, 1 of them unreadable\nclasses   3, 0 of them empty\nformats   JPEG 30\n",
        "channels  colour 30\n", "smallest       10  class_1 (class 1)\n",
        "largest        11  class_0 (class 0)\n", "width px            36      38     40\n", "\nmean: [0.",
        "\nstd: [0.", "unreadable: "}) {
    EXPECT_THAT(text.output, HasSubstr(part));
  }
  const ProgramResult json = run_program(
      {program("cosub"), "data", "stats", "--folder", folder_ / "set", "--samples", "7", "--json"});
  const nlohmann::json parsed = nlohmann::json::parse(json.output);
  EXPECT_EQ(parsed["samples"], 31);
  EXPECT_EQ(parsed["unreadable"].size(), 1);
  EXPECT_EQ(parsed["classes"]["largest"]["name"], "class_0");
  EXPECT_LE(parsed["pixels"]["samples"], 7);
  EXPECT_EQ(parsed["pixels"]["mean"].size(), 3);
}

}  // namespace
}  // namespace cosub::testing
