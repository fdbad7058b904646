#include "common/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "common/atomic_file.h"
#include "common/descriptor.h"
#include "common/error.h"
#include "tests/support/temporary_folder.h"

namespace cosub {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

TEST(Process, ThreadsHaveNames) {
  std::string name;
  std::thread([&] {
    name_thread("a name that is cut");
    name = read_file("/proc/thread-self/comm");
  }).join();
  EXPECT_EQ(name, "a name that is \n");
}

constexpr seconds kLong(30);

/// A child that sleeps until the object ends.
class Sleeper {
 public:
  explicit Sleeper(SpawnOptions options = {}) {
    if (options.argv.empty()) options.argv = {"sleep", "1000"};
    id_ = spawn(options);
  }
  ~Sleeper() {
    ::kill(id_.pid, SIGKILL);
    ::waitpid(id_.pid, nullptr, 0);
  }
  const ProcessId& id() const { return id_; }

 private:
  ProcessId id_;
};

/// Runs to its end; what it printed.
std::string output_of(SpawnOptions options) {
  const testing::TemporaryFolder folder;
  options.output = folder / "output";
  EXPECT_EQ(wait_for_exit(spawn(options).pid, kLong), 0);
  return read_file(folder / "output");
}

/// Waits until a process that is not our child has ended.
bool ends_within(pid_t pid, milliseconds limit) {
  const Descriptor pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) return errno == ESRCH;
  pollfd waited{pidfd.get(), POLLIN, 0};
  return ::poll(&waited, 1, static_cast<int>(limit.count())) == 1;
}

TEST(Spawn, GivesExitCodeOrSignal) {
  EXPECT_EQ(wait_for_exit(spawn({.argv = {"sh", "-c", "exit 7"}}).pid, kLong), 7);
  EXPECT_EQ(wait_for_exit(spawn({.argv = {"sh", "-c", "kill -9 $$"}}).pid, kLong), 137);
}

TEST(Spawn, HandsArgumentsOverUntouched) {
  EXPECT_EQ(output_of({.argv = {"printf", "%s|", "a b", "$HOME", "", "*", "'\""}}), "a b|$HOME||*|'\"|");
}

TEST(Spawn, MissingProgramIsNamedWithARemedy) {
  EXPECT_THAT([] { spawn({.argv = {"cosub-no-such-program"}}); },
              ThrowsMessage<IoError>(AllOf(HasSubstr("cosub-no-such-program"), HasSubstr("install it"))));
  EXPECT_THAT(
      [] { spawn({.argv = {"/no/such/program"}}); },
      ThrowsMessage<IoError>(AllOf(HasSubstr("/no/such/program"), HasSubstr("No such file or directory"))));
}

TEST(Spawn, FileThatIsNoProgramIsNamed) {
  const testing::TemporaryFolder folder;
  write_file_atomically(folder / "plain", "text");
  EXPECT_THAT([&] { spawn({.argv = {(folder / "plain").string()}}); },
              ThrowsMessage<IoError>(AllOf(HasSubstr("/plain"), HasSubstr("Permission denied"))));
}

TEST(Spawn, MissingWorkingDirectoryIsNamed) {
  EXPECT_THAT([] { spawn({.argv = {"true"}, .working_directory = "/no/such/folder"}); },
              ThrowsMessage<IoError>(HasSubstr("cannot change into /no/such/folder")));
}

TEST(Spawn, WorksInItsWorkingDirectory) {
  const testing::TemporaryFolder folder;
  EXPECT_EQ(output_of({.argv = {"pwd", "-P"}, .working_directory = folder.path()}),
            fs::canonical(folder.path()).string() + "\n");
}

TEST(Spawn, AddsReplacesAndRemovesVariables) {
  ASSERT_EQ(::setenv("COSUB_TEST_OURS", "ours", 1), 0);
  const std::vector<std::string> print = {"sh", "-c", "echo ${COSUB_TEST_OURS-none} ${COSUB_TEST_NEW-none}"};
  EXPECT_EQ(output_of({.argv = print}), "ours none\n");
  EXPECT_EQ(output_of({.argv = print, .environment = {{"COSUB_TEST_OURS", "x"}, {"COSUB_TEST_NEW", "y=z"}}}),
            "x y=z\n");
  EXPECT_EQ(output_of({.argv = print, .unset = {"COSUB_TEST_OURS"}}), "none none\n");
  ::unsetenv("COSUB_TEST_OURS");
}

TEST(Spawn, AppendsBothOutputsToTheFile) {
  const testing::TemporaryFolder folder;
  write_file_atomically(folder / "log", "before\n");
  const pid_t pid = spawn({.argv = {"sh", "-c", "echo out; echo err >&2"}, .output = folder / "log"}).pid;
  EXPECT_EQ(wait_for_exit(pid, kLong), 0);
  EXPECT_EQ(read_file(folder / "log"), "before\nout\nerr\n");
}

TEST(Spawn, ReadsNothingFromOurTerminal) {
  EXPECT_EQ(output_of({.argv = {"cat"}}), "");
}

TEST(Spawn, NewSessionIsItsOwnLeader) {
  const Sleeper own({.argv = {"sleep", "1000"}, .new_session = true});
  const Sleeper ours;
  EXPECT_EQ(::getsid(own.id().pid), own.id().pid);
  EXPECT_EQ(::getsid(ours.id().pid), ::getsid(0));
}

TEST(Spawn, DiesWithItsParentWhereAsked) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const pid_t parent = ::fork();
  ASSERT_GE(parent, 0);
  if (parent == 0) {
    const ProcessId child = spawn({.argv = {"sleep", "1000"}, .die_with_parent = true});
    if (::write(ends[1], &child.pid, sizeof child.pid) != sizeof child.pid) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  pid_t grandchild = 0;
  ASSERT_EQ(::read(ends[0], &grandchild, sizeof grandchild), static_cast<ssize_t>(sizeof grandchild));
  EXPECT_TRUE(start_time_of(grandchild).has_value());
  ASSERT_EQ(::kill(parent, SIGKILL), 0);
  ASSERT_EQ(::waitpid(parent, nullptr, 0), parent);
  EXPECT_TRUE(ends_within(grandchild, kLong));
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(Spawn, HandsOnOneDescriptorAndNoOther) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const int leaky = ::socket(AF_INET, SOCK_STREAM, 0);  // as libraries open them
  ASSERT_GE(leaky, 0);
  const std::string script = "echo through >&" + std::to_string(ends[1]) + "; ls /proc/self/fd";
  const std::string listed = output_of({.argv = {"bash", "-c", script}, .inherited_fd = ends[1]});
  std::array<char, 16> text{};
  EXPECT_EQ(::read(ends[0], text.data(), text.size()), 8);
  EXPECT_STREQ(text.data(), "through\n");
  const std::string lines = "\n" + listed;
  EXPECT_THAT(lines, HasSubstr("\n" + std::to_string(ends[1]) + "\n"));
  EXPECT_THAT(lines, Not(HasSubstr("\n" + std::to_string(leaky) + "\n")));
  for (const int fd : {ends[0], ends[1], leaky}) ::close(fd);
}

TEST(Spawn, StartsWithSignalsNeitherBlockedNorIgnored) {
  sigset_t term, before;
  ::sigemptyset(&term);
  ::sigaddset(&term, SIGTERM);
  ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, &term, &before), 0);
  const auto handler = ::signal(SIGUSR1, SIG_IGN);
  const std::string status = output_of({.argv = {"grep", "-E", "SigBlk|SigIgn", "/proc/self/status"}});
  EXPECT_EQ(status, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
  sigset_t after;
  ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, &before, &after), 0);
  EXPECT_EQ(::sigismember(&after, SIGTERM), 1) << "spawn changed our own mask";
  EXPECT_EQ(::sigismember(&after, SIGUSR2), 0) << "spawn changed our own mask";
  ::signal(SIGUSR1, handler);
}

TEST(WaitForExit, GivesUpAtItsLimit) {
  const Sleeper sleeper;
  EXPECT_FALSE(wait_for_exit(sleeper.id().pid, milliseconds(20)).has_value());
  EXPECT_THROW(wait_for_exit(::getppid(), milliseconds(20)), IoError);  // not our child
}

TEST(IsAlive, KnowsZombiesAndReusedPids) {
  const ProcessId child = spawn({.argv = {"sleep", "1000"}});
  EXPECT_TRUE(is_alive(child));
  EXPECT_FALSE(is_alive({child.pid, child.start_time + 1}));
  EXPECT_TRUE(send_signal(child, SIGKILL));
  EXPECT_TRUE(ends_within(child.pid, kLong));
  EXPECT_FALSE(is_alive(child)) << "a zombie";
  EXPECT_FALSE(send_signal(child, SIGTERM)) << "a zombie";
  EXPECT_EQ(wait_for_exit(child.pid, kLong), 137);
  EXPECT_FALSE(is_alive(child));
  EXPECT_FALSE(send_signal(child, SIGTERM));
}

TEST(SendSignal, SparesAProcessThatOnlyHasThePid) {
  const Sleeper sleeper;
  EXPECT_FALSE(send_signal({sleeper.id().pid, sleeper.id().start_time + 1}, SIGKILL));
  EXPECT_TRUE(is_alive(sleeper.id()));
}

TEST(StartTime, IsReadWhateverTheProgramIsCalled) {
  const testing::TemporaryFolder folder;
  const fs::path program = folder / "a) Z 1 (b";
  fs::copy_file(fs::canonical("/bin/sleep"), program);
  const Sleeper plain;
  const Sleeper odd({.argv = {program.string(), "1000"}});
  EXPECT_TRUE(is_alive(odd.id()));
  EXPECT_GE(odd.id().start_time, plain.id().start_time);
}

TEST(FindProcessesOfAttempt, FindsByEnvironmentAndByArguments) {
  const std::string uuid = new_uuid();
  const Sleeper by_environment({.argv = {"sleep", "1000"}, .environment = {{"COSUB_ATTEMPT", uuid}}});
  const Sleeper by_option(
      {.argv = {"sh", "-c", "kill -STOP $$", "wrapper", "--attempt", uuid}, .new_session = true});
  const Sleeper by_variable({.argv = {"sh", "-c", "kill -STOP $$", "mpirun", "-x", "COSUB_ATTEMPT=" + uuid}});
  const Sleeper of_another({.argv = {"sleep", "1000"}, .environment = {{"COSUB_ATTEMPT", new_uuid()}}});
  const std::vector<ProcessId> found = find_processes_of_attempt(uuid);
  EXPECT_THAT(found, Contains(by_environment.id()));
  EXPECT_THAT(found, Contains(by_option.id()));
  EXPECT_THAT(found, Contains(by_variable.id()));
  EXPECT_THAT(found, Not(Contains(of_another.id())));
  EXPECT_TRUE(find_processes_of_attempt(new_uuid()).empty());
}

TEST(NewUuid, IsRandomVersion4) {
  const std::string uuid = new_uuid();
  EXPECT_THAT(uuid,
              ::testing::MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_NE(uuid, new_uuid());
}

TEST(ThisMachine, HasANameABootAndAProgramFolder) {
  EXPECT_EQ(boot_id().size(), 36U);
  EXPECT_FALSE(host_name().empty());
  EXPECT_TRUE(fs::exists(executable_folder() / "process_test"));
}

TEST(DieWithParent, SeesThatTheParentIsThere) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(die_with_parent() ? 0 : 1);
  EXPECT_EQ(wait_for_exit(child, kLong), 0);
}

}  // namespace
}  // namespace cosub
