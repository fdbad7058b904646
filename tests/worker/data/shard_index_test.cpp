// What `cosub data index` writes: which shards it reads again, by which labels, and what it refuses.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>

#include "common/atomic_file.h"
#include "common/process.h"
#include "tests/worker/data/shard_folder.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::bytes_of;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;

class Index : public testing::ShardFolder {
 protected:
  void write_cls(const std::string& label) {
    write("c.cls", label);
    pack("001.tar", "c.jpeg c.cls");
  }
  std::int64_t label_of_c() { return open_shards(1000)->label(2); }
};

TEST_F(Index, FollowsAnotherClassMap) {
  write_shards();
  write_cls("cat");
  write("classes.txt", "dog\ncat\n");
  const IndexOptions options{.class_map = folder_ / "classes.txt"};
  index(options);
  EXPECT_EQ(index(options).shards_read, 0);
  EXPECT_EQ(label_of_c(), 1);
  write("classes.txt", "cat\ndog\n");
  EXPECT_EQ(index(options).shards_read, 2);
  EXPECT_EQ(label_of_c(), 0);
}

TEST_F(Index, FollowsAnotherLabelField) {
  write_shards();
  write("b.json", R"({"label": 0, "coarse": 1})");
  pack("000.tar", "a.cls a.jpg b.json b.png");
  index();
  EXPECT_EQ(open_shards()->label(1), 0);
  index({.label_field = "coarse"});
  EXPECT_EQ(open_shards()->label(1), 1);
}

TEST_F(Index, HasOneLabellingForAllItsShards) {
  write_shards();
  write_cls("cat");
  write("classes.txt", "dog\ncat\n");
  index({.class_map = folder_ / "classes.txt"});
  write("classes.txt", "cat\ndog\n");
  EXPECT_EQ(index({.class_map = folder_ / "classes.txt"}, "000.tar").shards_read, 2);
  EXPECT_EQ(label_of_c(), 0);
  EXPECT_THAT(error_of([&] { index({}, "000.tar"); }),
              AllOf(HasSubstr("001.tar: c: label 'cat' found"), HasSubstr("with another --class-map")));
  EXPECT_EQ(label_of_c(), 0);
}

TEST_F(Index, TakesAJsonsLabelOnlyWhereThereIsNoCls) {
  write_shards();
  write("a.json", R"({"label": "tench"})");
  pack("000.tar", "a.cls a.jpg a.json b.json b.png");
  index();
  EXPECT_EQ(open_shards()->label(0), 2);
  write("a.json", "no JSON");
  pack("000.tar", "a.json a.jpg a.cls b.json b.png");
  index();
  EXPECT_EQ(open_shards()->label(0), 2);
  pack("000.tar", "a.json a.jpg b.json b.png");
  EXPECT_THAT(error_of([&] { index(); }), HasSubstr("000.tar: a: its json member is no JSON object"));
}

TEST_F(Index, TakesANameOfTheClassMapBeforeANumber) {
  write_shards();
  write("classes.txt", "0\n1\n2\n1984\n");
  const IndexOptions options{.class_map = folder_ / "classes.txt"};
  write_cls("1984");
  index(options);
  EXPECT_EQ(label_of_c(), 3);
  write_cls("17");
  index(options);
  EXPECT_EQ(label_of_c(), 17);
}

TEST_F(Index, RefusesALabelThatIsAnotherClassesNumber) {
  write_shards();
  write("classes.txt", "0\n1\n10\n2\n");
  EXPECT_THAT(
      error_of([&] { index({.class_map = folder_ / "classes.txt"}); }),
      HasSubstr("000.tar: a: label '2' found, which is a number, and in the class map the name of class "
                "3; leave the class map out if labels are numbers, or"));
}

TEST_F(Index, TakesAJsonsNumberForANumberAndItsTextForAName) {
  write_shards();
  write("classes.txt", "9\n2\n0\n1\n");
  const IndexOptions options{.class_map = folder_ / "classes.txt"};
  write("a.json", R"({"label": 1})");
  pack("000.tar", "a.jpg a.json");
  write("c.json", R"({"label": "9"})");
  pack("001.tar", "c.jpeg c.json");
  index(options);
  EXPECT_EQ(open_shards()->label(0), 1);
  EXPECT_EQ(open_shards()->label(1), 0);
}

TEST_F(Index, NamesTheFaultsOfAllShardsAndStaysAsItWas) {
  write_shards();
  index();
  const std::string before = read_file(folder_.path() / kShardIndexName);
  pack("000.tar", "a.jpg b.png");
  pack("001.tar", "c.cls");
  for (const std::int64_t threads : {1, 2}) {
    const std::string faults = error_of([&] { index({.threads = threads}); });
    EXPECT_THAT(faults, HasSubstr("000.tar: a: an image without a label"));
    EXPECT_THAT(faults, HasSubstr("\n" + (folder_ / "001.tar").string() + ": c: a label without an image"));
  }
  EXPECT_EQ(read_file(folder_.path() / kShardIndexName), before);
}

TEST_F(Index, TellsTheFirstFaultsOnly) {
  write("c.cls", "1");
  for (int shard = 10; shard < 22; ++shard) pack(fmt::format("{}.tar", shard), "c.cls");
  const std::string faults = error_of([&] { index({}, "{10..21}.tar"); });
  EXPECT_THAT(faults,
              AllOf(HasSubstr("19.tar: c: a label"), Not(HasSubstr("20.tar")), EndsWith("\nand 2 more")));
}

TEST_F(Index, TakesAShardWithoutMembersAndSaysSo) {
  write_shards();
  pack("001.tar", "--files-from=/dev/null");
  const IndexSummary summary = index();
  EXPECT_THAT(summary.empty, ElementsAre(folder_ / "001.tar"));
  EXPECT_EQ(summary.samples, 2);
  EXPECT_THAT(index().empty, ElementsAre(folder_ / "001.tar"));
  const auto source = open_shard_source({.shards = {folder_ / "{001,000,001}.tar"}}, 3, 3);
  ASSERT_EQ(source->size(), 2);
  EXPECT_EQ(bytes_of(*source, 0), "image of a");
  EXPECT_EQ(bytes_of(*source, 1), "image of b, longer");
  EXPECT_THAT(error_of([&] { open_shard_source({.shards = {folder_ / "001.tar"}}, 3, 3); }),
              HasSubstr("001.tar: no sample in these shards"));
  write("c.txt", "text");
  pack("001.tar", "c.txt");
  EXPECT_THAT(error_of([&] { index(); }),
              HasSubstr("001.tar: no sample in it: none of its members is an image"));
}

TEST_F(Index, IsWrittenByOneProcessAtATime) {
  write_shards();
  std::string refusal;
  const auto index_again = [&](std::int64_t done, std::int64_t read, std::int64_t all) {
    EXPECT_EQ(all, 2);
    EXPECT_EQ(read, done);
    if (done == 1) refusal = error_of<ConfigError>([&] { index(); });
  };
  build_shard_index(shards_to_index({folder_ / "{000..001}.tar"}), {}, index_again);
  EXPECT_THAT(refusal, HasSubstr(fmt::format("process {} on {} indexes it just now", getpid(), host_name())));
  EXPECT_EQ(index().shards_read, 0);
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    EXPECT_THAT(entry.path().filename().string(), Not(HasSubstr("lock")));
  }
}

TEST_F(Index, IsOneForAFolderByTwoNames) {
  write_shards();
  fs::create_directory(folder_ / "d");
  EXPECT_EQ(index({}, "{000.tar,d/../001.tar,d/../000.tar}").shards, 2);
  EXPECT_EQ(open_shards()->size(), 3);
}

TEST_F(Index, KeepsWhatWasNotNamedAndForgetsWhatIsGone) {
  write_shards();
  index();
  EXPECT_EQ(index({}, "000.tar").shards, 1);
  EXPECT_EQ(open_shards()->size(), 3);
  fs::remove(folder_ / "001.tar");
  EXPECT_THAT(error_of([&] { open_shard_source({.shards = {folder_.path()}}, 3, 3); }),
              HasSubstr("001.tar: no such shard, though it is in the index of its folder"));
  index({}, ".");
  EXPECT_EQ(open_shard_source({.shards = {folder_.path()}}, 3, 3)->size(), 2);
}

}  // namespace
}  // namespace cosub::data
