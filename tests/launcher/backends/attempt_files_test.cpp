#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "common/atomic_file.h"
#include "common/error.h"
#include "launcher/backends/backend.h"
#include "tests/support/temporary_folder.h"

namespace cosub::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

LaunchSpec example(const std::filesystem::path& folder) {
  LaunchSpec spec;
  spec.uuid = new_uuid();
  spec.attempt = 4;
  spec.attempt_folder = folder;
  spec.worker_argv = {"/opt/cosub-worker", "run", "a b"};
  spec.ranks = 8;
  spec.hosts = {"n1:4", "n2:4"};
  spec.environment = {{"OMP_NUM_THREADS", "2"}};
  spec.grace = std::chrono::milliseconds(1500);
  spec.launcher_flags = {"--mca", "x", "y"};
  return spec;
}

TEST(AttemptFiles, LaunchReadsBackAsWritten) {
  testing::TemporaryFolder folder;
  const LaunchSpec written = example(folder.path());
  write_launch(written);
  const LaunchSpec read = read_launch(folder.path());
  EXPECT_EQ(read.uuid, written.uuid);
  EXPECT_EQ(read.attempt, 4);
  EXPECT_EQ(read.attempt_folder, folder.path());
  EXPECT_EQ(read.worker_argv, written.worker_argv);
  EXPECT_EQ(read.ranks, 8);
  EXPECT_EQ(read.hosts, written.hosts);
  EXPECT_EQ(read.environment, written.environment);
  EXPECT_EQ(read.grace, written.grace);
  EXPECT_EQ(read.launcher_flags, written.launcher_flags);
}

TEST(AttemptFiles, ExitReadsBackAsWritten) {
  testing::TemporaryFolder folder;
  EXPECT_FALSE(read_exit(folder.path()).has_value());
  write_exit(folder.path(), {137, "rank 2 was killed", 2, true, 77, 1.5});
  const ExitRecord read = read_exit(folder.path()).value();
  EXPECT_EQ(read.exit_code, 137);
  EXPECT_EQ(read.reason, "rank 2 was killed");
  EXPECT_EQ(read.failed_rank, 2);
  EXPECT_TRUE(read.from_outside);
  EXPECT_EQ(read.step, 77);
  EXPECT_EQ(read.seconds, 1.5);
}

TEST(AttemptFiles, AReasonThatIsNotTextIsStillWritten) {
  testing::TemporaryFolder folder;
  write_exit(folder.path(), {1, "bad \xff byte", -1, false, -1, 0});
  EXPECT_THAT(read_exit(folder.path()).value().reason, HasSubstr("bad "));
}

TEST(AttemptFiles, DamageIsNamedByFileAndField) {
  testing::TemporaryFolder folder;
  const auto launch = folder / "launch.json";
  const auto read = [&] { read_launch(folder.path()); };
  EXPECT_THROW(read(), IoError) << "missing";
  write_file_atomically(launch, "");
  EXPECT_THAT(read,
              ThrowsMessage<DataError>(AllOf(HasSubstr("launch.json"), HasSubstr("not a JSON object"))));
  write_launch(example(folder.path()));
  const std::string whole = read_file(launch);
  write_file_atomically(launch, whole.substr(0, whole.size() / 2));
  EXPECT_THAT(read, ThrowsMessage<DataError>(HasSubstr("not a JSON object")));
  std::string changed = whole;
  changed.replace(changed.find("\"ranks\": 8"), 10, "\"ranks\": []");
  write_file_atomically(launch, changed);
  EXPECT_THAT(read, ThrowsMessage<DataError>(HasSubstr("field 'ranks' has the wrong type: []")));
  changed.replace(changed.find("\"ranks\": []"), 11, "\"rinks\": 8");
  write_file_atomically(launch, changed);
  EXPECT_THAT(read, ThrowsMessage<DataError>(HasSubstr("field 'ranks' is missing")));
}

TEST(AttemptFiles, AUuidThatCouldNameOtherFilesIsRefused) {
  testing::TemporaryFolder folder;
  for (const char* uuid : {"", "../../etc", "a b", "x/y"}) {
    LaunchSpec spec = example(folder.path());
    spec.uuid = uuid;
    write_launch(spec);
    EXPECT_THROW(read_launch(folder.path()), DataError) << uuid;
  }
}

TEST(AttemptFiles, ADamagedClaimIsAnErrorNotAFreeAttempt) {
  testing::TemporaryFolder folder;
  write_file_atomically(folder / "claim", "{}");
  EXPECT_THROW(read_claim(folder.path()), DataError);
  EXPECT_FALSE(take_claim(folder.path(), {}));
}

TEST(AttemptFiles, OneOfManyTakesTheClaimAndNoTemporaryStays) {
  for (int race = 0; race < 20; ++race) {
    testing::TemporaryFolder folder;
    std::atomic<int> winner = 0;
    std::atomic<int> winners = 0;
    std::vector<std::thread> claimants;
    for (int i = 1; i <= 4; ++i) {
      claimants.emplace_back([&, i] {
        if (take_claim(folder.path(), {"wrapper", "h", "b", {i, 7}})) {
          winner = i;
          ++winners;
        }
      });
    }
    for (std::thread& claimant : claimants) claimant.join();
    EXPECT_EQ(winners, 1);
    EXPECT_EQ(read_claim(folder.path()).value().process, (ProcessId{winner, 7}));
    const auto files = std::distance(std::filesystem::directory_iterator(folder.path()), {});
    EXPECT_EQ(files, 1);
  }
}

}  // namespace
}  // namespace cosub::launcher
