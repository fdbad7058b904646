// A folder of files and tar shards made of them, for tests of what is stored where.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "common/error.h"
#include "common/shard_list.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"
#include "worker/data/storage/build_shard_index.h"
#include "worker/data/storage/shard_source.h"

namespace cosub::testing {

inline std::string bytes_of(const data::Source& source, std::int64_t index) {
  data::ByteBuffer buffer;
  const data::StoredImage stored = source.read(index, buffer);
  return {stored.bytes.begin(), stored.bytes.end()};
}

class ShardFolder : public ::testing::Test {
 protected:
  void write(const std::filesystem::path& path, const std::string& content) {
    std::filesystem::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path, std::ios::binary) << content;
  }
  /// The files, in this order, as an archive of that format.
  void pack(const std::string& archive, const std::string& files, const std::string& format = "ustar") {
    const std::string command = "cd '" + folder_.path().string() + "' && tar --format=" + format + " -cf " +
                                archive + " " + files + " 2>&1";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }
  /// Samples a, b (shard 0) and c (shard 1) with labels 2, 0 and 1.
  void write_shards() {
    write("a.jpg", "image of a");
    write("a.cls", "2");
    write("b.png", "image of b, longer");
    write("b.json", R"({"label": 0, "width": 7})");
    write("c.jpeg", "c");
    write("c.cls", "1\n");
    pack("000.tar", "a.cls a.jpg b.json b.png");
    pack("001.tar", "c.jpeg c.cls");
  }
  data::IndexSummary index(const data::IndexOptions& options = {},
                           const std::string& shards = "{000..001}.tar") {
    return data::build_shard_index(shards_to_index({folder_ / shards}), options, nullptr);
  }
  std::unique_ptr<data::Source> open_shards(std::int64_t classes = 3, std::int64_t limit = 0) {
    return data::open_shard_source({.shards = {folder_ / "{000..001}.tar"}, .limit = limit}, 3, classes);
  }

  TemporaryFolder folder_;
};

}  // namespace cosub::testing
