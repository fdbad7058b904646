// Written tars: what tar and Python read in them, that their bytes are always the same, and that none is left
// half-written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <fstream>
#include <string_view>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/whole_system.h"
#include "worker/data/storage/tar.h"
#include "worker/data/storage/tar_writer.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

class TarWriting : public ::testing::Test {
 protected:
  fs::path write(const std::string& name) {
    TarWriter tar(folder_ / ("." + name));
    tar.add("000000000.cls", bytes_of("17"));
    tar.add("000000000.jpg", bytes_of(long_));
    tar.add("000000001.cls", {});
    tar.add("000000002.ppm", bytes_of(std::string(1024, 'p')));
    EXPECT_FALSE(fs::exists(folder_ / name));
    const std::uint64_t bytes = tar.finish();
    tar.publish(folder_ / name);
    EXPECT_EQ(bytes, fs::file_size(folder_ / name));
    return folder_ / name;
  }

  testing::TemporaryFolder folder_;
  std::string long_ = std::string(3'000'001, 'j');  // more than one block of writing
};

TEST_F(TarWriting, OurReaderFindsEveryMember) {
  TarReader tar(write("x.tar"));
  std::vector<std::string> names;
  for (TarMember member; tar.next(member);) {
    names.push_back(member.name);
    if (names.size() == 2) {
      EXPECT_EQ(tar.read(member, 1 << 30), long_);
    }
  }
  EXPECT_THAT(names, ElementsAre("000000000.cls", "000000000.jpg", "000000001.cls", "000000002.ppm"));
}

TEST_F(TarWriting, TarAndPythonReadIt) {
  const fs::path file = write("x.tar");
  const testing::ProgramResult listed =
      testing::run_program({"tar", "tvf", file, "--utc", "--numeric-owner"});
  EXPECT_EQ(listed.exit_code, 0);
  EXPECT_THAT(listed.output, HasSubstr("-rw-r--r-- 0/0               2 1970-01-01 00:00 000000000.cls\n"));
  EXPECT_THAT(listed.output, HasSubstr("3000001 1970-01-01 00:00 000000000.jpg\n"));
  const testing::ProgramResult read = testing::run_program(
      {"python3", "-c",
       "import sys, tarfile\n"
       "for m in tarfile.open(sys.argv[1]):\n"
       "    data = tarfile.open(sys.argv[1]).extractfile(m).read()\n"
       "    print(m.name, len(data), data[:2].decode(), oct(m.mode), m.mtime, m.uid, m.gid, repr(m.uname))\n",
       file});
  EXPECT_EQ(read.output,
            "000000000.cls 2 17 0o644 0 0 0 ''\n000000000.jpg 3000001 jj 0o644 0 0 0 ''\n"
            "000000001.cls 0  0o644 0 0 0 ''\n000000002.ppm 1024 pp 0o644 0 0 0 ''\n");
}

TEST_F(TarWriting, TheSameMembersGiveTheSameBytes) {
  EXPECT_EQ(read_file(write("x.tar")), read_file(write("y.tar")));
  EXPECT_EQ(fs::file_size(folder_ / "x.tar"), 4 * 512 + 512 + 3'000'320 + 0 + 1024 + 1024u);
}

TEST_F(TarWriting, WhatIsNotPublishedIsGone) {
  {
    TarWriter tar(folder_ / "half");
    tar.add("a.jpg", bytes_of(long_));
    EXPECT_TRUE(fs::exists(folder_ / "half"));
  }
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(TarWriting, AWriteThatFailsNamesItsFile) {
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{100'000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string message;
  try {
    write("x.tar");
  } catch (const IoError& error) {
    message = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  EXPECT_EQ(message, "cannot write " + (folder_ / ".x.tar").string() + ": File too large");
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

}  // namespace
}  // namespace cosub::data
