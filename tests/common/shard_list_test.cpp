#include "common/shard_list.h"

#include <gmock/gmock.h>

#include <fstream>

#include "common/error.h"
#include "tests/support/shard_files.h"
#include "tests/support/temporary_folder.h"

namespace cosub {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ShardLists : public ::testing::Test {
 protected:
  ShardLists() { testing::write_indexed_shards(folder_.path(), {"0.tar", "1.tar", "2.tar"}); }

  ShardList list(const std::string& pattern) { return list_shards({folder_ / pattern}); }
  static std::vector<std::string> names(const ShardList& list) {
    std::vector<std::string> result;
    for (const ListedShard& shard : list.shards) result.push_back(shard.path.filename());
    return result;
  }

  testing::TemporaryFolder folder_;
};

TEST_F(ShardLists, AreByThePatternsOrder) {
  EXPECT_THAT(names(list("{2,0}.tar")), ElementsAre("2.tar", "0.tar"));
  EXPECT_THAT(names(list(".")), ElementsAre("0.tar", "1.tar", "2.tar"));
  EXPECT_THAT(list(".").problems, IsEmpty());
  EXPECT_EQ(list("1.tar").shards.at(0).entry->file, "1.tar");
}

TEST_F(ShardLists, AFoldersIndexSaysWhatHasToBeThere) {
  fs::remove(folder_ / "1.tar");
  EXPECT_THAT(names(list(".")), ElementsAre("0.tar", "2.tar"));
  EXPECT_THAT(list(".").problems,
              ElementsAre(HasSubstr("1.tar: no such shard, though it is in the index of its folder")));
  std::ofstream(folder_ / "3.tar");
  EXPECT_THAT(list(".").problems,
              ElementsAre(HasSubstr("1.tar"), HasSubstr("3.tar: not in the index of its folder; run: cosub "
                                                        "data index")));
}

TEST_F(ShardLists, NameEveryShardThatIsNotThere) {
  EXPECT_THAT(list("{2..4}.tar").problems,
              ElementsAre(HasSubstr("3.tar: no such shard; correct"), HasSubstr("4.tar: no such shard")));
  EXPECT_THAT(list("elsewhere").problems,
              ElementsAre(HasSubstr("`cosub data pack` makes folders of shards")));
  std::ofstream(folder_ / "3.tar");
  EXPECT_THAT(list("3.tar").problems, ElementsAre(HasSubstr("3.tar: not in the index of its folder")));
}

TEST_F(ShardLists, AnIndexThatCannotBeUsedIsOneProblem) {
  std::ofstream(folder_.path() / kShardIndexName).close();
  EXPECT_THAT(list("{0..2}.tar").problems,
              ElementsAre(HasSubstr("shards.index: cut short; write it with: cosub data index")));
  EXPECT_THAT(list(".").problems, ElementsAre(HasSubstr("shards.index: cut short")));
  fs::remove(folder_.path() / kShardIndexName);
  EXPECT_THAT(list("{0..2}.tar").problems, ElementsAre(HasSubstr("no index of the shards")));
}

TEST_F(ShardLists, AnIndexOfTheFormerFormatSaysWhatToDo) {
  std::string content = read_file(folder_.path() / kShardIndexName);
  content[8] = 1;
  write_file_atomically(folder_.path() / kShardIndexName, content);
  EXPECT_THAT(list(".").problems,
              ElementsAre(HasSubstr("version 1 of the format; this program reads version 2; write it with: "
                                    "cosub data index")));
}

TEST_F(ShardLists, AreRequiredWithTheFirstFewProblems) {
  EXPECT_EQ(require_shards({folder_ / "."}).size(), 3u);
  try {
    require_shards({folder_ / "{0..20}.tar"});
    FAIL() << "accepted";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("12.tar: no such shard"));
    EXPECT_THAT(error.what(), ::testing::EndsWith("\nand 8 more"));
  }
}

}  // namespace
}  // namespace cosub
