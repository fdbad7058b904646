// Shards on storage that fails, and how much is read of them. The faults are those of a network file system,
// made in this process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>

#include "common/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/worker/checkpoint/file_faults.h"
#include "worker/data/picture_reader.h"
#include "worker/data/source.h"
#include "worker/data/storage/build_shard_index.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;
using cosub::testing::FaultScope;
using ::testing::HasSubstr;

constexpr std::int64_t kSamples = 200;

class ShardFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    for (std::int64_t i = 0; i < kSamples; ++i) {
      std::ofstream(folder_ / (std::to_string(i) + ".pgm"))
          << "P5 1 1 255 " << static_cast<char>('0' + i % 10);
      std::ofstream(folder_ / (std::to_string(i) + ".cls")) << i % 3;
    }
    const std::string command = "cd " + folder_.path().string() + " && tar --format=ustar -cf 000.tar";
    std::string names;
    for (std::int64_t i = 0; i < kSamples; ++i)
      names += " " + std::to_string(i) + ".cls " + std::to_string(i) + ".pgm";
    ASSERT_EQ(std::system((command + names).c_str()), 0);
    build_shard_index({folder_ / "000.tar"}, {}, nullptr);
    source_ = open_source({.shards = {folder_ / "000.tar"}}, 1, 3);
  }

  testing::TemporaryFolder folder_;
  std::unique_ptr<Source> source_;
};

TEST_F(ShardFaults, AStaleHandleIsOpenedAnewByTheNextTry) {
  const config::DataConfig data;
  const PictureReader reader(*source_, data);
  ImageBuffers buffers;
  Activity activity;
  const StoredImage first = reader.read(0, buffers, activity);
  EXPECT_EQ(first.bytes.back(), '0');
  // Another file of that name from here on; reading the one that is open fails.
  fs::rename(folder_ / "000.tar", folder_ / "stale.tar");
  fs::copy_file(folder_ / "stale.tar", folder_ / "000.tar");
  const FaultScope stale({.call = "pread", .path_part = "stale.tar$", .error_number = ESTALE, .times = 100});
  EXPECT_EQ(reader.read(1, buffers, activity).bytes.back(), '1');
  EXPECT_EQ(stale.num_failed(), 1);
  EXPECT_EQ(reader.read(2, buffers, activity).bytes.back(), '2');
  EXPECT_EQ(stale.num_failed(), 1);
}

TEST_F(ShardFaults, WhatStaysUnreadableIsTheStoragesFault) {
  ByteBuffer buffer;
  const FaultScope broken({.call = "pread", .path_part = "000.tar$", .error_number = EIO, .times = 100});
  try {
    source_->read(3, buffer);
    FAIL() << "no IoError";
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), EIO);
    EXPECT_THAT(error.what(), HasSubstr("000.tar"));
  }
}

// Not the headers of all members before it.
TEST_F(ShardFaults, ANameIsFoundByTwoReadsWhereverItsSampleLies) {
  for (const std::int64_t sample : {std::int64_t{0}, kSamples - 1}) {
    const FaultScope counted({.call = "pread", .path_part = "000.tar$", .times = 1000});
    EXPECT_EQ(source_->name(sample), (folder_ / "000.tar").string() + ": " + std::to_string(sample) + ".pgm");
    EXPECT_EQ(counted.num_failed(), 2);
  }
}

}  // namespace
}  // namespace cosub::data
