#include "coordinator/state_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "common/error.h"
#include "coordinator/token.h"
#include "tests/support/temporary_folder.h"

namespace cosub::coordinator {
namespace {

using cosub::testing::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(StateFolder, RefusesASecondCoordinatorAndNamesTheFirst) {
  TemporaryFolder folder;
  const StateFolder first(folder / "state", false);
  try {
    const StateFolder second(folder / "state", false);
    FAIL() << "both have it";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("process " + std::to_string(getpid())), HasSubstr("--state")));
    EXPECT_EQ(error.exit_code(), ExitCode::kBadInput);
  }
}

TEST(StateFolder, IsFreeAgainWhenItsCoordinatorEnds) {
  TemporaryFolder folder;
  { const StateFolder first(folder / "state", false); }
  EXPECT_NO_THROW(StateFolder(folder / "state", false));
}

TEST(StateFolder, IsForItsOwnerOnly) {
  TemporaryFolder folder;
  const StateFolder state(folder / "state", false);
  struct stat info {};
  ASSERT_EQ(stat((folder / "state").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST(StateFolder, KnowsNetworkFileSystemsFromLocalOnes) {
  EXPECT_EQ(network_file_system(NFS_SUPER_MAGIC), "NFS");
  EXPECT_EQ(network_file_system(0x0bd00bd0), "Lustre");
  EXPECT_EQ(network_file_system(0x65735546), "FUSE");
  EXPECT_EQ(network_file_system(static_cast<int>(0xff534d42)),
            "CIFS");  // sign-extended, as some kernels give it
  EXPECT_FALSE(network_file_system(EXT4_SUPER_MAGIC));
  EXPECT_FALSE(network_file_system(TMPFS_MAGIC));
}

TEST(StateFolder, RemembersWhereItListened) {
  TemporaryFolder folder;
  const StateFolder state(folder / "state", false);
  EXPECT_FALSE(state.recorded_address());
  state.record_address("127.0.0.1:7070", 3);
  ASSERT_TRUE(state.recorded_address());
  EXPECT_EQ(state.recorded_address()->host, "127.0.0.1");
  EXPECT_EQ(state.recorded_address()->port, 7070);
  std::ofstream(folder / "state" / "address.json") << "{";
  EXPECT_FALSE(state.recorded_address());
}

TEST(Token, IsMadeOnceForItsOwnerOnly) {
  TemporaryFolder folder;
  const std::string token = token_from(folder / "token");
  EXPECT_EQ(token.size(), 64u);
  EXPECT_EQ(token_from(folder / "token"), token);
  struct stat info {};
  ASSERT_EQ(stat((folder / "token").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(Token, TightensPermissionsThatLetOthersRead) {
  TemporaryFolder folder;
  token_from(folder / "token");
  ASSERT_EQ(chmod((folder / "token").c_str(), 0644), 0);
  token_from(folder / "token");
  struct stat info {};
  ASSERT_EQ(stat((folder / "token").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(Token, RefusesAFileThatHoldsNone) {
  TemporaryFolder folder;
  std::ofstream(folder / "token") << "\n";
  EXPECT_THROW(token_from(folder / "token"), ConfigError);
}

TEST(Token, ComparesWholeTokens) {
  EXPECT_TRUE(same_token("abc", "abc"));
  EXPECT_FALSE(same_token("abc", "abd"));
  EXPECT_FALSE(same_token("ab", "abc"));
  EXPECT_FALSE(same_token("", ""));
}

}  // namespace
}  // namespace cosub::coordinator
