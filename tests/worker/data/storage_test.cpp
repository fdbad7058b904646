// Where samples are stored: folders of images, tar shards and their index; what is said of bad ones.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/worker/data/shard_folder.h"
#include "worker/data/source.h"
#include "worker/data/storage/class_map.h"
#include "worker/data/storage/tar.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;
using testing::bytes_of;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

class Storage : public testing::ShardFolder {
 protected:
  std::vector<TarMember> members(const std::string& archive) {
    TarReader tar(folder_ / archive);
    std::vector<TarMember> all;
    for (TarMember member; tar.next(member);) {
      all.push_back(member);
      contents_.push_back(tar.read(member, 100));
    }
    return all;
  }

  std::vector<std::string> contents_;
};

TEST_F(Storage, TarMembersAreFoundInEveryFormat) {
  const std::string deep = std::string(90, 'd') + "/" + std::string(90, 'e') + "/name.jpg";
  const std::string long_name = std::string(240, 'n') + ".jpg";
  write(deep, "deep");
  write("empty.cls", "");
  write("block.cls", std::string(512, 'x'));
  for (const std::string format : {"ustar", "gnu", "pax"}) {
    std::string files = deep + " empty.cls block.cls";
    if (format != "ustar") {
      write(long_name, "long");
      files = long_name + " " + files;
    }
    pack("x.tar", files, format);
    contents_.clear();
    std::vector<TarMember> found = members("x.tar");
    ASSERT_EQ(found.size(), format == "ustar" ? 3u : 4u) << format;
    if (format != "ustar") {
      EXPECT_EQ(found[0].name, long_name);
      EXPECT_EQ(contents_[0], "long");
      found.erase(found.begin());
      contents_.erase(contents_.begin());
    }
    EXPECT_EQ(found[0].name, deep) << format;
    EXPECT_EQ(contents_[0], "deep");
    EXPECT_EQ(found[1].size, 0u);
    EXPECT_EQ(found[2].size, 512u);
  }
}

TEST_F(Storage, AMembersNameIsFoundFromItsData) {
  const std::string long_name = std::string(240, 'n') + ".jpg";
  write("first.jpg", std::string(40'000, 'f'));
  write("d/second.jpg", "s");
  write("empty.cls", "");
  write("h\303\266.jpg", "not ASCII");
  write(long_name, "long");
  write("last.jpg", "l");
  pack("inner.tar", "d", "gnu");
  const std::string commented = "pax --pax-option=comment:=" + std::string(900, 'c');
  for (const std::string& format : {std::string("gnu"), std::string("pax"), commented}) {
    pack("x.tar", "first.jpg d empty.cls h\303\266.jpg inner.tar " + long_name + " last.jpg", format);
    contents_.clear();
    const std::vector<TarMember> all = members("x.tar");
    ASSERT_EQ(all.size(), 7u);
    for (const TarMember& member : all) {
      EXPECT_EQ(TarReader::name_at(folder_ / "x.tar", member.offset), member.name) << format;
      EXPECT_EQ(TarReader::name_at(folder_ / "x.tar", member.offset + 7), "");
    }
    for (const std::uint64_t nowhere : {0, 511, 1 << 30}) {
      EXPECT_EQ(TarReader::name_at(folder_ / "x.tar", nowhere), "");
    }
  }
}

TEST_F(Storage, FoldersAndLinksInATarAreNoMembers) {
  write("d/a.jpg", "a");
  fs::create_symlink("a.jpg", folder_ / "d/link.jpg");
  pack("x.tar", "d", "gnu");
  const std::vector<TarMember> found = members("x.tar");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].name, "d/a.jpg");
}

TEST_F(Storage, DamagedTarsAreRefusedWithTheirByte) {
  write("a.jpg", std::string(2000, 'a'));
  pack("x.tar", "a.jpg");
  const auto reading = [&](const char* name) { return error_of([&] { members(name); }); };
  std::string content = read_file(folder_ / "x.tar");
  write("cut.tar", content.substr(0, 1500));
  EXPECT_THAT(reading("cut.tar"),
              HasSubstr("cut.tar: byte 0: member 'a.jpg' of 2000 bytes reaches beyond the end"));
  content[3] ^= 1;
  write("flipped.tar", content);
  EXPECT_THAT(reading("flipped.tar"), HasSubstr("byte 0: a header with a wrong checksum"));
  write("zip.tar", "\x1f\x8b" + std::string(600, 'z'));
  EXPECT_THAT(reading("zip.tar"), HasSubstr("compressed; samples are read out of the middle"));
  write("short.tar", "abc");
  EXPECT_THAT(reading("short.tar"), HasSubstr("3 bytes are no tar file"));
}

TEST_F(Storage, BracesAndFoldersNameShards) {
  for (const char* name : {"s-008.tar", "s-009.tar", "s-010.tar", "t.tar"}) write(name, "");
  const auto names = [&](const char* pattern) {
    std::vector<std::string> result;
    for (const fs::path& path : shards_to_index({folder_ / pattern})) result.push_back(path.filename());
    return result;
  };
  EXPECT_THAT(names("s-{008..010}.tar"), ElementsAre("s-008.tar", "s-009.tar", "s-010.tar"));
  EXPECT_THAT(names("{t,s-009}.tar"), ElementsAre("t.tar", "s-009.tar"));
  EXPECT_THAT(names("s-0{08,10}.tar").size(), 2u);
  EXPECT_THAT(names("."), ElementsAre("s-008.tar", "s-009.tar", "s-010.tar", "t.tar"));
}

TEST_F(Storage, MissingShardsAndBadRangesAreNamed) {
  EXPECT_THAT(error_of([&] { shards_to_index({folder_ / "{7..8}.tar"}); }),
              HasSubstr("7.tar: no such shard"));
  EXPECT_THAT(error_of([&] { shards_to_index({"/d/{8..7}.tar"}); }), HasSubstr("'{8..7}' is no range"));
}

TEST_F(Storage, ShardsAreReadByTheirIndex) {
  write_shards();
  const IndexSummary summary = index();
  EXPECT_EQ(summary.samples, 3);
  EXPECT_EQ(summary.max_label, 2);
  const auto source = open_shards();
  ASSERT_EQ(source->size(), 3);
  EXPECT_EQ(bytes_of(*source, 0), "image of a");
  EXPECT_EQ(bytes_of(*source, 1), "image of b, longer");
  EXPECT_EQ(bytes_of(*source, 2), "c");
  EXPECT_EQ(source->label(0), 2);
  EXPECT_EQ(source->label(1), 0);
  EXPECT_EQ(source->label(2), 1);
  EXPECT_THAT(source->name(1), HasSubstr("000.tar: b.png"));
  EXPECT_EQ(open_shards(3, 2)->size(), 2);
  EXPECT_LE(fs::file_size(folder_.path() / kShardIndexName), 48 + 2 * 56 + 3 * 16);
}

TEST_F(Storage, SomeShardsOfAnIndexMayBeUsedInAnotherOrder) {
  write_shards();
  index();
  const auto source = open_source({.shards = {folder_ / "001.tar", folder_ / "000.tar"}}, 3, 3);
  EXPECT_EQ(bytes_of(*source, 0), "c");
  EXPECT_EQ(bytes_of(*source, 1), "image of a");
  EXPECT_EQ(open_source({.shards = {folder_ / "001.tar"}}, 3, 3)->size(), 1);
}

TEST_F(Storage, IndexingAgainReadsWhatHasChangedOnly) {
  write_shards();
  EXPECT_EQ(index().shards_read, 2);
  EXPECT_EQ(index().shards_read, 0);
  EXPECT_EQ(index({.again = true}).shards_read, 2);
  write("c.cls", "0");
  write("more.cls", "5");
  write("more.jpg", std::string(50000, 'm'));
  pack("001.tar", "c.jpeg c.cls more.cls more.jpg");
  EXPECT_THAT(error_of([&] { bytes_of(*open_shards(), 2); }), HasSubstr("run cosub data index again"));
  EXPECT_EQ(index().shards_read, 1);
  EXPECT_EQ(open_shards(6)->label(2), 0);
  EXPECT_EQ(open_shards(6)->size(), 4);
}

TEST_F(Storage, AShardThatIsGoneMakesBadSamplesOnly) {
  write_shards();
  index();
  const auto source = open_source({.shards = {folder_ / "000.tar", folder_ / "001.tar"}}, 3, 3);
  fs::remove(folder_ / "001.tar");
  EXPECT_EQ(bytes_of(*source, 0), "image of a");
  try {
    bytes_of(*source, 2);
    FAIL() << "no SharedDataError";
  } catch (const SharedDataError& error) {
    const std::string shard = (folder_ / "001.tar").string();
    EXPECT_EQ(error.what(), "sample 0 at byte 512 of " + shard +
                                ": the shard is gone or closed to this user: No such file or directory");
    EXPECT_EQ(error.cause(),
              shard +
                  ": the shard is gone or closed to this user: No such file or directory; none "
                  "of its 1 samples can be read");
  }
  EXPECT_THAT(source->name(2), HasSubstr("001.tar: sample 0 at byte"));
}

TEST_F(Storage, LabelsOutsideTheClassesAreNamedWithTheirSample) {
  write_shards();
  index();
  EXPECT_THAT(error_of([&] { open_shards(2); }),
              HasSubstr("000.tar: a.jpg: its label is 2; model.classes is 2"));
}

TEST_F(Storage, ClassNamesNeedAMap) {
  write_shards();
  write("c.cls", "cat");
  pack("001.tar", "c.jpeg c.cls");
  EXPECT_THAT(error_of([&] { index(); }),
              HasSubstr("001.tar: c: label 'cat' found; expected a number, or give"));
  write("classes.txt", "dog\ncat\n");
  index({.class_map = folder_ / "classes.txt"});
  EXPECT_EQ(open_shards()->label(2), 1);
}

TEST_F(Storage, SamplesWithoutLabelOrImageAreNamed) {
  write_shards();
  pack("001.tar", "c.jpeg");
  EXPECT_THAT(error_of([&] { index(); }),
              HasSubstr("001.tar: c: an image without a label; expected a member c.cls"));
  pack("001.tar", "c.cls");
  EXPECT_THAT(error_of([&] { index(); }), HasSubstr("001.tar: c: a label without an image"));
  EXPECT_FALSE(fs::exists(folder_.path() / kShardIndexName));
}

TEST_F(Storage, DamagedIndexesAreRefused) {
  write_shards();
  index();
  const std::string good = read_file(folder_.path() / kShardIndexName);
  const std::size_t head = good.size() - 3 * 16;
  for (std::size_t at = 0; at < head; ++at) {  // header and table
    std::string bad = good;
    bad[at] ^= 4;
    write(std::string(kShardIndexName), bad);
    EXPECT_THAT(error_of([&] { open_shards(); }), HasSubstr("write it with: cosub data index"))
        << "byte " << at;
  }
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{39}, head, good.size() - 1}) {
    write(std::string(kShardIndexName), good.substr(0, bytes));
    EXPECT_NE(error_of([&] { open_shards(); }), "no error") << bytes;
  }
  fs::remove(folder_.path() / kShardIndexName);
  EXPECT_THAT(error_of([&] { open_shards(); }), HasSubstr("no index of the shards; write it with"));
}

TEST_F(Storage, FoldersAreReadInTorchvisionsOrder) {
  for (const char* path :
       {"set/b/2.jpg", "set/b/10.jpg", "set/b/sub/0.png", "set/b/sub-1/1.png", "set/b/sub/deep/2.png",
        "set/a/z.JPEG", "set/B/x.webp", "set/b/readme.txt", "set/b/1.txt"}) {
    write(path, path);
  }
  const auto source = open_source({.folder = folder_ / "set"}, 3, 3);
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < source->size(); ++i) {
    names.push_back(fs::path(source->name(i)).lexically_relative(folder_ / "set"));
  }
  EXPECT_THAT(names, ElementsAre("B/x.webp", "a/z.JPEG", "b/10.jpg", "b/2.jpg", "b/sub/0.png",
                                 "b/sub-1/1.png", "b/sub/deep/2.png"));
  EXPECT_EQ(source->label(0), 0);
  EXPECT_EQ(source->label(4), 2);
  EXPECT_EQ(bytes_of(*source, 3), "set/b/2.jpg");
  fs::remove(folder_ / "set/b/2.jpg");
  EXPECT_THAT(error_of([&] { bytes_of(*source, 3); }), HasSubstr("b/2.jpg: cannot open: No such file"));
}

TEST_F(Storage, ListFilesNameSamplesOfAFolder) {
  write("set/a b.jpg", "1");
  write("set/c.jpg", "2");
  write("list.txt", "c.jpg 1\r\na b.jpg\t0\n\n");
  const auto source = open_source({.folder = folder_ / "set", .list = folder_ / "list.txt"}, 3, 2);
  ASSERT_EQ(source->size(), 2);
  EXPECT_EQ(bytes_of(*source, 0), "2");
  EXPECT_EQ(bytes_of(*source, 1), "1");
  EXPECT_EQ(source->label(0), 1);
  write("list.txt", "c.jpg 1\nc.jpg\n");
  const auto opening = [&](std::int64_t classes) {
    return error_of(
        [&] { open_source({.folder = folder_ / "set", .list = folder_ / "list.txt"}, 3, classes); });
  };
  EXPECT_THAT(opening(2), HasSubstr("list.txt:2: 'c.jpg' found; expected a path, a space and a label"));
  write("list.txt", "c.jpg 7\n");
  EXPECT_THAT(opening(2), HasSubstr("c.jpg: its label is 7; model.classes is 2"));
}

TEST_F(Storage, FoldersThatCannotBeAreNamed) {
  const auto opening = [&] { return error_of([&] { open_source({.folder = folder_ / "set"}, 3, 9); }); };
  EXPECT_THAT(opening(), HasSubstr("set: no such folder"));
  fs::create_directories(folder_ / "set");
  EXPECT_THAT(opening(), HasSubstr("set: no sub-folder in it"));
  write("set/a/x.txt", "");
  EXPECT_THAT(opening(), HasSubstr("set/a: no image in it"));
}

TEST_F(Storage, ClassMapsNumberNamesByLine) {
  write("map", "n01\nn02\n\n");
  EXPECT_THAT(read_class_map(folder_ / "map"), ElementsAre(std::pair("n01", 0), std::pair("n02", 1)));
  write("map", "n01\n\nn02\n");
  EXPECT_THAT(error_of([&] { read_class_map(folder_ / "map"); }), HasSubstr("map:2: '' found"));
  write("map", "n01\nn01\n");
  EXPECT_THAT(error_of([&] { read_class_map(folder_ / "map"); }), HasSubstr("map:2: 'n01' found"));
}

}  // namespace
}  // namespace cosub::data
