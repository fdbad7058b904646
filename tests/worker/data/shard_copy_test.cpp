// Shards whose time is not the one their index has: copies of what was indexed, and what only looks like one.
#include <gmock/gmock.h>

#include "common/atomic_file.h"
#include "tests/worker/data/shard_folder.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;
using testing::bytes_of;
using testing::error_of;
using ::testing::HasSubstr;

class CopiedShards : public testing::ShardFolder {
 protected:
  void SetUp() override {
    write_shards();
    index();
    before_ = fs::last_write_time(folder_ / "000.tar");
  }
  /// The first shard anew, of these files; it has the size that it had.
  void pack_again(const std::string& files) {
    const std::uintmax_t size = fs::file_size(folder_ / "000.tar");
    pack("000.tar", files);
    ASSERT_EQ(fs::file_size(folder_ / "000.tar"), size);
    fs::last_write_time(folder_ / "000.tar", before_ + std::chrono::seconds(7));
  }
  void expect_refused() {
    const auto source = open_shards();
    for (const std::int64_t i : {0, 1, 0}) {
      EXPECT_THAT(error_of([&] { bytes_of(*source, i); }),
                  HasSubstr("000.tar: was changed after its index was written; run cosub data index again"));
    }
    EXPECT_EQ(bytes_of(*source, 2), "c");
    index();
    EXPECT_NO_THROW(bytes_of(*open_shards(), 0));
  }

  fs::file_time_type before_;
};

TEST_F(CopiedShards, AreReadWhateverTheirTime) {
  fs::last_write_time(folder_ / "000.tar", before_ + std::chrono::hours(1));
  const auto source = open_shards();
  EXPECT_EQ(bytes_of(*source, 0), "image of a");
  EXPECT_EQ(bytes_of(*source, 1), "image of b, longer");
}

TEST_F(CopiedShards, WithOtherImagesAreRefused) {
  write("b.png", "image of b, LONGER");
  pack_again("a.cls a.jpg b.json b.png");
  expect_refused();
}

TEST_F(CopiedShards, WithTheSameImagesInAnotherOrderAreRefused) {
  pack_again("b.json b.png a.cls a.jpg");
  expect_refused();
}

TEST_F(CopiedShards, WithAnotherLabelOfTheSameLengthAreRefused) {
  write("a.cls", "1");
  pack_again("a.cls a.jpg b.json b.png");
  expect_refused();
}

}  // namespace
}  // namespace cosub::data
