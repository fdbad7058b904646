#include "launcher/commands/preflight.h"

#include <gmock/gmock.h>

#include <fstream>

#include "tests/support/shard_files.h"
#include "tests/support/temporary_folder.h"

namespace cosub::commands {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

class PreflightOfShards : public ::testing::Test {
 protected:
  PreflightOfShards() {
    testing::write_indexed_shards(folder_ / "train", {"0.tar", "1.tar", "2.tar", "3.tar"});
    testing::write_indexed_shards(folder_ / "val", {"0.tar"});
  }

  /// What is missing of a pipeline that trains on these shards.
  std::vector<std::string> missing(const std::string& train) {
    return missing_inputs(
        config::parse_pipeline("name: small\n"
                               "stages:\n"
                               "  - name: pretrain\n"
                               "    model: {name: resnet18, classes: 10}\n"
                               "    data: {train: {shards: ['" +
                                   train +
                                   "']}, val: {shards: [val]}}\n"
                                   "    batch: {global: 8, micro: 8}\n"
                                   "    optimizer: {lr: 1e-3}\n"
                                   "    schedule: {epochs: 3, warmup_epochs: 0}\n",
                               "p.yaml", folder_.path()));
  }

  testing::TemporaryFolder folder_;
};

TEST_F(PreflightOfShards, FindsNothingWhereAllIsThere) {
  EXPECT_THAT(missing("train"), IsEmpty());
  EXPECT_THAT(missing("train/{0..3}.tar"), IsEmpty());
}

TEST_F(PreflightOfShards, NamesTheOnesThatAreGone) {
  fs::remove(folder_ / "train/1.tar");
  fs::remove(folder_ / "train/3.tar");
  for (const char* pattern : {"train", "train/{0..3}.tar"}) {
    EXPECT_THAT(missing(pattern), ElementsAre(AllOf(StartsWith("stages.pretrain.data.train.shards: "),
                                                    HasSubstr("train/1.tar: no such shard")),
                                              HasSubstr("train/3.tar: no such shard")))
        << pattern;
  }
}

TEST_F(PreflightOfShards, LooksIntoTheIndex) {
  std::ofstream(folder_ / "train/shards.index").close();
  EXPECT_THAT(missing("train/{0..3}.tar"),
              ElementsAre(HasSubstr("train/shards.index: cut short; write it with: cosub data index")));
  fs::remove(folder_ / "train/shards.index");
  EXPECT_THAT(missing("train"), ElementsAre(HasSubstr("train/shards.index: no index of the shards")));
}

TEST_F(PreflightOfShards, TellsTheFirstFewOnly) {
  const std::vector<std::string> problems = missing("train/{0..2047}.tar");
  EXPECT_THAT(problems, SizeIs(11));
  EXPECT_EQ(problems.back(), "stages.pretrain.data.train.shards: and 2034 more");
}

class PreflightOfModels : public ::testing::Test {
 protected:
  /// What comes of a worker that is this shell script.
  ModelCheck check(const std::string& script) {
    const fs::path worker = folder_ / "cosub-worker";
    std::ofstream(worker) << "#!/bin/sh\n" << script << "\n";
    fs::permissions(worker, fs::perms::owner_all);
    return check_models(worker, "p.yaml", {"seed=1", "stages.a.ema=0"});
  }

  testing::TemporaryFolder folder_;
};

TEST_F(PreflightOfModels, AsksTheWorkerWithAllOverrides) {
  const ModelCheck asked = check("echo \"$*\"; exit 78");
  EXPECT_THAT(asked.problems, ElementsAre("model check p.yaml --set seed=1 --set stages.a.ema=0"));
}

TEST_F(PreflightOfModels, TakesEachLineForAProblem) {
  const ModelCheck bad = check("echo p.yaml:1:1: a; echo p.yaml:2:1: b; exit 78");
  EXPECT_THAT(bad.problems, ElementsAre("p.yaml:1:1: a", "p.yaml:2:1: b"));
  EXPECT_THAT(bad.skipped, IsEmpty());
  const ModelCheck good = check("exit 0");
  EXPECT_THAT(good.problems, IsEmpty());
  EXPECT_THAT(good.skipped, IsEmpty());
}

TEST_F(PreflightOfModels, TakesNoNoiseForAProblem) {
  EXPECT_THAT(check("echo noise >&2; echo p.yaml:1:1: a; exit 78").problems, ElementsAre("p.yaml:1:1: a"));
  const ModelCheck unread = check("echo error: /dev/stdin: name: found nothing >&2; exit 78");
  EXPECT_THAT(unread.problems, IsEmpty());
  EXPECT_THAT(unread.skipped, HasSubstr("/dev/stdin: name: found nothing"));
}

TEST_F(PreflightOfModels, IsSkippedWhereTheWorkerIsMissingOrBroken) {
  EXPECT_THAT(check_models(folder_ / "none", "p.yaml", {}).skipped, HasSubstr("none is not there"));
  EXPECT_THAT(check("echo no libtorch_cpu.so >&2; exit 127").skipped,
              HasSubstr("ended with 127: no libtorch"));
  EXPECT_THAT(check("kill -9 $$").skipped, HasSubstr("ended with 137"));
  EXPECT_THAT(check("exit 1").problems, IsEmpty());
}

}  // namespace
}  // namespace cosub::commands
