#include "launcher/backends/mpirun_command.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>

#include "tests/support/temporary_folder.h"

namespace cosub::launcher {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::Pair;
using Words = std::vector<std::string>;

LaunchSpec example() {
  LaunchSpec spec;
  spec.uuid = "u-1";
  spec.worker_argv = {"/opt/cosub-worker", "run", "s.yaml"};
  spec.ranks = 6;
  spec.environment = {{"OMP_NUM_THREADS", "2"}};
  return spec;
}

bool has_sequence(const Words& argv, const Words& sequence) {
  return std::search(argv.begin(), argv.end(), sequence.begin(), sequence.end()) != argv.end();
}

TEST(MpirunCommand, OnThisMachine) {
  const Words argv = mpirun_command(example());
  EXPECT_EQ(argv.front(), "mpirun");
  EXPECT_TRUE(has_sequence(argv, {"-n", "6"}));
  EXPECT_TRUE(has_sequence(argv, {"--bind-to", "none", "--oversubscribe"}));
  EXPECT_TRUE(has_sequence(argv, {"--mca", "oob_tcp_keepalive_time", "5"}));
  EXPECT_TRUE(has_sequence(argv, {"-x", "COSUB_ATTEMPT=u-1"}));
  EXPECT_TRUE(has_sequence(argv, {"-x", "OMP_NUM_THREADS=2"}));
  EXPECT_TRUE(has_sequence(argv, {"-x", "OMP_WAIT_POLICY=passive"}));
  EXPECT_TRUE(has_sequence(argv, {"--mca", "orte_tmpdir_base", "/dev/shm/cosub-u-1"}));
  EXPECT_THAT(argv, Not(Contains("--host")));
  EXPECT_EQ(Words(argv.end() - 3, argv.end()), (Words{"/opt/cosub-worker", "run", "s.yaml"}));
}

TEST(MpirunCommand, OverHostsWithTheCoordinatorsOwnFlagsBeforeTheWorker) {
  LaunchSpec spec = example();
  spec.hosts = {"n1:4", "n2:2"};
  spec.launcher_flags = {"--mca", "btl_tcp_if_include", "10.0.0.0/8"};
  const Words argv = mpirun_command(spec);
  EXPECT_TRUE(has_sequence(argv, {"--host", "n1:4,n2:2"}));
  EXPECT_TRUE(has_sequence(argv, {"--mca", "btl_tcp_if_include", "10.0.0.0/8", "/opt/cosub-worker"}));
  EXPECT_THAT(argv, Not(Contains("orte_tmpdir_base"))) << "cleared on this machine only";
}

TEST(MpirunCommand, AGivenWaitPolicyStays) {
  LaunchSpec spec = example();
  spec.environment["OMP_WAIT_POLICY"] = "active";
  EXPECT_THAT(rank_environment(spec), Contains(Pair("OMP_WAIT_POLICY", "active")));
}

TEST(MpirunCommand, RootNeedsLeave) {
  EXPECT_THAT(
      mpirun_environment(example(), true),
      IsSupersetOf({Pair("OMPI_ALLOW_RUN_AS_ROOT", "1"), Pair("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")}));
  EXPECT_THAT(mpirun_environment(example(), false), ElementsAre(Pair("COSUB_ATTEMPT", "u-1")));
}

TEST(MpirunCommand, NothingOfAnAllocationOrOuterJobIsInherited) {
  EXPECT_THAT(names_to_unset({"PATH", "SLURM_JOB_ID", "OMPI_MCA_btl", "PMIX_RANK"}),
              ElementsAre("SLURM_JOB_ID", "OMPI_MCA_btl", "PMIX_RANK"));
  EXPECT_THAT(
      names_to_unset({"PATH", "SLURM_NODELIST", "OMPI_MCA_btl_tcp_if_include", "OMPI_ALLOW_RUN_AS_ROOT"}),
      ElementsAre("SLURM_NODELIST"))
      << "a site's own settings stay";
}

TEST(MpirunCommand, AShellSplitsTheQuotedLineBack) {
  testing::TemporaryFolder folder;
  const Words argv{"a b", "it's", "$HOME", "", "x=1,y;z", "back\\slash", "line\nbreak", "*"};
  Words shell{"/bin/sh", "-c", "for w in " + shell_quoted(argv) + "; do printf '%s\\0' \"$w\"; done"};
  SpawnOptions options;
  options.argv = shell;
  options.output = folder / "out";
  const ProcessId child = spawn(options);
  ASSERT_EQ(wait_for_exit(child.pid, std::chrono::seconds(10)), 0);
  std::ifstream file(folder / "out");
  Words seen;
  for (std::string word; std::getline(file, word, '\0');) seen.push_back(word);
  EXPECT_EQ(seen, argv);
  EXPECT_EQ(shell_quoted({"mpirun", "-n", "2"}), "mpirun -n 2");
}

}  // namespace
}  // namespace cosub::launcher
