#include "launcher/backends/mpirun.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/support/temporary_folder.h"

namespace cosub::launcher {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

ProcessId ourselves() {
  return {getpid(), start_time_of(getpid()).value()};
}

LaunchSpec example(const std::filesystem::path& folder) {
  LaunchSpec spec;
  spec.uuid = new_uuid();
  spec.attempt_folder = folder;
  spec.worker_argv = {"/bin/true"};
  return spec;
}

/// A process that carries the UUID and does nothing.
ProcessId carrier(const std::string& uuid) {
  SpawnOptions options;
  options.argv = {"sleep", "1000"};
  options.environment = {{"COSUB_ATTEMPT", uuid}};
  return spawn(options);
}

TEST(Mpirun, SaysHowToGetAMissingMpirun) {
  const std::string path = std::getenv("PATH");
  setenv("PATH", "/nowhere", 1);
  const auto why = MpirunBackend().unavailable();
  setenv("PATH", path.c_str(), 1);
  ASSERT_TRUE(why.has_value());
  EXPECT_THAT(*why, HasSubstr("apt-get install openmpi-bin"));
  EXPECT_FALSE(MpirunBackend().unavailable().has_value());
}

TEST(Mpirun, UnknownBackendsAreRefused) {
  EXPECT_NE(make_backend("mpirun"), nullptr);
  EXPECT_THROW(make_backend("mpirum"), ConfigError);
}

TEST(Mpirun, StartLeavesCommandEnvironmentAndHostsToRead) {
  testing::TemporaryFolder folder;
  LaunchSpec spec = example(folder.path());
  spec.environment = {{"A", "x y"}};
  const ProcessId wrapper = MpirunBackend("/bin/true").start(spec);
  EXPECT_EQ(wait_for_exit(wrapper.pid, 10s), 0);
  EXPECT_THAT(read_file(folder / "command"), HasSubstr("mpirun -n 1 "));
  EXPECT_THAT(read_file(folder / "environment"), HasSubstr("'A=x y'\n"));
  EXPECT_EQ(read_file(folder / "hosts"), host_name() + ":1\n");
  EXPECT_EQ(read_launch(folder.path()).uuid, spec.uuid);
}

TEST(Mpirun, AMissingWrapperIsNamed) {
  testing::TemporaryFolder folder;
  MpirunBackend backend(folder / "cosub-attempt");
  EXPECT_THAT([&] { backend.start(example(folder.path())); },
              ::testing::ThrowsMessage<IoError>(HasSubstr("cosub-attempt")));
}

TEST(Mpirun, ProbeFollowsTheClaim) {
  MpirunBackend backend;
  struct Case {
    Claim claim;
    Liveness expected;
  };
  ProcessId reused = ourselves();
  reused.start_time += 1;
  const std::vector<Case> cases = {
      {{"wrapper", host_name(), boot_id(), ourselves()}, Liveness::kRunning},
      {{"wrapper", host_name(), boot_id(), reused}, Liveness::kGone},
      {{"wrapper", host_name(), "another boot", ourselves()}, Liveness::kGone},
      {{"wrapper", "another-host", boot_id(), ourselves()}, Liveness::kUnknown},
      {{"coordinator", host_name(), boot_id(), ourselves()}, Liveness::kGone},
  };
  for (const Case& each : cases) {
    testing::TemporaryFolder folder;
    ASSERT_TRUE(take_claim(folder.path(), each.claim));
    EXPECT_EQ(backend.probe(folder.path(), new_uuid()), each.expected) << each.claim.owner << each.claim.host;
  }
}

TEST(Mpirun, ProbeWithoutAClaimLooksTheUuidUp) {
  testing::TemporaryFolder folder;
  MpirunBackend backend;
  const std::string uuid = new_uuid();
  EXPECT_EQ(backend.probe(folder.path(), uuid), Liveness::kGone);
  const ProcessId process = carrier(uuid);
  EXPECT_EQ(backend.probe(folder.path(), uuid), Liveness::kRunning);
  EXPECT_TRUE(backend.kill_leftovers(uuid));
  EXPECT_EQ(wait_for_exit(process.pid, 5s), 128 + SIGKILL);
  EXPECT_EQ(backend.probe(folder.path(), uuid), Liveness::kGone);
}

TEST(Mpirun, StopReachesAWrapperThatHasNotClaimedYet) {
  testing::TemporaryFolder folder;
  const LaunchSpec spec = example(folder.path());
  write_launch(spec);
  const ProcessId wrapper = carrier(spec.uuid);
  EXPECT_TRUE(MpirunBackend().stop(folder.path(), false));
  EXPECT_EQ(wait_for_exit(wrapper.pid, 5s), 128 + SIGTERM);
  EXPECT_FALSE(MpirunBackend().stop(folder.path(), false));
}

TEST(Mpirun, StopNeverSignalsAReusedPid) {
  testing::TemporaryFolder folder;
  const ProcessId bystander = carrier(new_uuid());
  ProcessId stale = bystander;
  stale.start_time -= 1;
  ASSERT_TRUE(take_claim(folder.path(), {"wrapper", host_name(), boot_id(), stale}));
  EXPECT_FALSE(MpirunBackend().stop(folder.path(), true));
  EXPECT_TRUE(is_alive(bystander));
  send_signal(bystander, SIGKILL);
  wait_for_exit(bystander.pid, 5s);
}

TEST(Mpirun, KillLeftoversEndsAllOfOneAttemptAndNoneOfAnother) {
  MpirunBackend backend;
  const std::string uuid = new_uuid();
  const ProcessId bystander = carrier(new_uuid());
  const std::vector<ProcessId> leftovers = {carrier(uuid), carrier(uuid), carrier(uuid)};
  EXPECT_TRUE(backend.kill_leftovers(uuid));
  for (const ProcessId& process : leftovers) EXPECT_EQ(wait_for_exit(process.pid, 5s), 128 + SIGKILL);
  EXPECT_TRUE(is_alive(bystander));
  send_signal(bystander, SIGKILL);
  wait_for_exit(bystander.pid, 5s);
}

}  // namespace
}  // namespace cosub::launcher
