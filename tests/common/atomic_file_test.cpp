#include "common/atomic_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "common/descriptor.h"
#include "common/error.h"
#include "common/process.h"
#include "tests/support/temporary_folder.h"

namespace cosub {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::size_t num_entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// Writes above this size fail with EFBIG while the object lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t max_bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{max_bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  sighandler_t handler_;
};

TEST(WriteFileAtomically, ReplacesTheWholeFileAndLeavesNothingBeside) {
  const testing::TemporaryFolder folder;
  write_file_atomically(folder / "state", "a longer first version");
  write_file_atomically(folder / "state", "second");
  EXPECT_EQ(read_file(folder / "state"), "second");
  EXPECT_EQ(num_entries(folder.path()), 1U);
}

TEST(WriteFileAtomically, GivesTheFileItsMode) {
  const testing::TemporaryFolder folder;
  write_file_atomically(folder / "token", "secret", 0600);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "token").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST(WriteFileAtomically, FailedWriteKeepsTheOldFileAndLeavesNothingBeside) {
  const testing::TemporaryFolder folder;
  write_file_atomically(folder / "state", "old");
  {
    const FileSizeLimit limit(1024);
    EXPECT_THAT([&] { write_file_atomically(folder / "state", std::string(4096, 'x')); },
                ThrowsMessage<IoError>(AllOf(HasSubstr("cannot write"), HasSubstr("File too large"))));
  }
  EXPECT_EQ(read_file(folder / "state"), "old");
  EXPECT_EQ(num_entries(folder.path()), 1U);
}

TEST(WriteFileAtomically, MissingFolderIsNamed) {
  const testing::TemporaryFolder folder;
  EXPECT_THAT(
      [&] { write_file_atomically(folder / "none" / "state", "x"); },
      ThrowsMessage<IoError>(AllOf(HasSubstr("/none/state"), HasSubstr("No such file or directory"))));
}

TEST(WriteFileAtomically, ForbiddenFolderComesWithARemedy) {
  const testing::TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
  const bool is_root = ::geteuid() == 0;
  ASSERT_EQ(is_root ? ::seteuid(65534) : 0, 0);  // root may write everywhere
  EXPECT_THAT(
      [&] { write_file_atomically(folder / "state", "x"); },
      ThrowsMessage<IoError>(AllOf(HasSubstr("Permission denied"), HasSubstr("choose another folder"))));
  ASSERT_EQ(is_root ? ::seteuid(0) : 0, 0);
  fs::permissions(folder.path(), fs::perms::owner_all);
}

TEST(WriteFileAtomically, ReaderSeesOnlyWholeFilesWhateverBecomesOfTheWriter) {
  const testing::TemporaryFolder folder;
  const fs::path path = folder / "state";
  const std::string a(20000, 'a');
  const std::string b(20000, 'b');
  write_file_atomically(path, a);
  for (int round = 0; round < 5; ++round) {
    const pid_t writer = ::fork();
    ASSERT_GE(writer, 0);
    if (writer == 0) {
      for (;;) {
        write_file_atomically(path, b);
        write_file_atomically(path, a);
      }
    }
    for (int i = 0; i < 100; ++i) {
      const std::string content = read_file(path);
      ASSERT_TRUE(content == a || content == b) << content.size();
    }
    ASSERT_EQ(::kill(writer, SIGKILL), 0);
    ASSERT_EQ(::waitpid(writer, nullptr, 0), writer);
    const std::string content = read_file(path);
    ASSERT_TRUE(content == a || content == b) << content.size();
  }
  remove_stale_temporaries(folder.path());
  EXPECT_EQ(num_entries(folder.path()), 1U);
}

TEST(WriteAll, FullDiskComesWithARemedy) {
  const Descriptor full = open_file("/dev/full", O_WRONLY, "write");
  try {
    write_all(full, bytes("x"), "/data/runs/state");
    FAIL() << "no error";
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), ENOSPC);
    EXPECT_STREQ(error.what(),
                 "cannot write /data/runs/state: No space left on device; "
                 "free space on the file system of /data/runs or choose another folder");
  }
}

TEST(WriteNewFile, NeverReplaces) {
  const testing::TemporaryFolder folder;
  write_new_file(folder / "a", bytes("first"));
  EXPECT_THAT([&] { write_new_file(folder / "a", bytes("second")); },
              ThrowsMessage<IoError>(HasSubstr("File exists")));
  EXPECT_EQ(read_file(folder / "a"), "first");
}

TEST(WriteNewFile, RemovesWhatItBeganWhenItFails) {
  const testing::TemporaryFolder folder;
  const FileSizeLimit limit(1024);
  EXPECT_THROW(write_new_file(folder / "a", bytes(std::string(4096, 'x'))), IoError);
  EXPECT_EQ(num_entries(folder.path()), 0U);
}

TEST(ReadFile, MissingFileIsAnErrorOrNothingAsAsked) {
  const testing::TemporaryFolder folder;
  EXPECT_THAT([&] { read_file(folder / "none"); },
              ThrowsMessage<IoError>(HasSubstr((folder / "none").string())));
  EXPECT_FALSE(read_file_if_there(folder / "none").has_value());
  EXPECT_THROW(read_file_if_there(folder.path()), IoError);  // a folder is no file, but it is there
}

class RenameNew : public ::testing::TestWithParam<std::string> {
 protected:
  static bool rename(const fs::path& from, const fs::path& to) {
    return GetParam() == "by_kernel" ? rename_new(from, to) : rename_new_by_link(from, to);
  }
};

TEST_P(RenameNew, NeverReplacesAFile) {
  const testing::TemporaryFolder folder;
  write_file_atomically(folder / "from", "new");
  write_file_atomically(folder / "to", "old");
  EXPECT_FALSE(rename(folder / "from", folder / "to"));
  EXPECT_EQ(read_file(folder / "to"), "old");
  fs::remove(folder / "to");
  EXPECT_TRUE(rename(folder / "from", folder / "to"));
  EXPECT_EQ(read_file(folder / "to"), "new");
  EXPECT_FALSE(fs::exists(folder / "from"));
}

TEST_P(RenameNew, NeverReplacesAFolder) {
  const testing::TemporaryFolder folder;
  fs::create_directories(folder / "from");
  fs::create_directories(folder / "to");
  write_file_atomically(folder / "to" / "old", "old");
  EXPECT_FALSE(rename(folder / "from", folder / "to"));
  EXPECT_TRUE(fs::exists(folder / "to" / "old"));
  EXPECT_TRUE(rename(folder / "from", folder / "elsewhere"));
  EXPECT_FALSE(fs::exists(folder / "from"));
}

TEST_P(RenameNew, MissingSourceIsAnError) {
  const testing::TemporaryFolder folder;
  EXPECT_THROW(rename(folder / "from", folder / "to"), IoError);
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutKernelSupport, RenameNew, ::testing::Values("by_kernel", "by_link"));

TEST(LinkNew, ExactlyOneOfManyWins) {
  const testing::TemporaryFolder folder;
  constexpr int kThreads = 8;
  for (int i = 0; i < kThreads; ++i) write_file_atomically(folder / std::to_string(i), std::to_string(i));
  std::atomic<int> num_winners = 0;
  std::atomic<int> winner = -1;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      if (!link_new(folder / std::to_string(i), folder / "claim")) return;
      ++num_winners;
      winner = i;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_winners, 1);
  EXPECT_EQ(read_file(folder / "claim"), std::to_string(winner));
}

TEST(LinkNew, OwnSuccessReportedAsExistsIsASuccess) {
  const testing::TemporaryFolder folder;
  write_file_atomically(folder / "mine", "x");
  EXPECT_TRUE(link_new(folder / "mine", folder / "claim"));
  EXPECT_TRUE(link_new(folder / "mine", folder / "claim"));
}

TEST(Hashes, EqualPublishedValues) {
  const testing::TemporaryFolder folder;
  write_file_atomically(folder / "abc", "abc");
  write_file_atomically(folder / "empty", "");
  EXPECT_EQ(sha256_file(folder / "abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(xxh3_file(folder / "empty"), "2d06800538d394c2");
  EXPECT_EQ(xxh3_hex({}), "2d06800538d394c2");
}

TEST(Hashes, StreamedFileEqualsItsBytes) {
  const testing::TemporaryFolder folder;
  std::string content(300000, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31 % 251);
  write_file_atomically(folder / "a", content);
  EXPECT_EQ(xxh3_file(folder / "a"), xxh3_hex(bytes(content)));
  content[150000] ^= 1;
  EXPECT_NE(xxh3_file(folder / "a"), xxh3_hex(bytes(content)));
}

TEST(FreeBytes, LooksAtTheFolderThatIsThere) {
  const testing::TemporaryFolder folder;
  EXPECT_GT(free_bytes(folder / "not" / "yet"), 0U);
}

TEST(RemoveStaleTemporaries, KeepsThoseOfTheLivingAndOfOtherHosts) {
  const testing::TemporaryFolder folder;
  const ProcessId dead = spawn({.argv = {"true"}});
  ASSERT_TRUE(wait_for_exit(dead.pid, std::chrono::seconds(30)).has_value());
  const std::string of_dead = "state.tmp." + host_name() + "." + std::to_string(dead.pid) + ".0011aabb";
  const std::string of_living = "state.tmp." + host_name() + "." + std::to_string(::getpid()) + ".0011aabb";
  const std::string of_other_host =
      "state.tmp.not-" + host_name() + "." + std::to_string(dead.pid) + ".0011aabb";
  for (const std::string& name : {of_dead, of_living, of_other_host, std::string("state")})
    write_new_file(folder / name, bytes("x"));
  remove_stale_temporaries(folder.path());
  EXPECT_FALSE(fs::exists(folder / of_dead));
  EXPECT_TRUE(fs::exists(folder / of_living));
  EXPECT_TRUE(fs::exists(folder / of_other_host));
  EXPECT_TRUE(fs::exists(folder / "state"));
  remove_stale_temporaries(folder / "none");  // nothing to do
}

}  // namespace
}  // namespace cosub
