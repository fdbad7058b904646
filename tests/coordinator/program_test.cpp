// The program itself: how it starts, refuses to start, ends, and comes up again after a kill.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/http.h"
#include "common/process.h"
#include "tests/support/temporary_folder.h"

namespace cosub::coordinator {
namespace {

using cosub::testing::TemporaryFolder;
using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kLimit = std::chrono::seconds(60);

std::string program() {
  const char* folder = std::getenv("COSUB_BINARY_DIR");
  return std::string(folder != nullptr ? folder : ".") + "/bin/cosub-coordinator";
}

/// One run of the program; killed with the test.
class Coordinator {
 public:
  Coordinator(const TemporaryFolder& folder, std::vector<std::string> arguments, int inherited_fd = -1)
      : state_(folder / "state"), log_(folder / "log") {
    SpawnOptions options;
    options.argv = {program(), "--state", state_.string()};
    options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
    options.output = log_;
    options.inherited_fd = inherited_fd;
    process_ = spawn(options);
  }
  ~Coordinator() {
    if (ended_) return;
    send_signal(process_, SIGKILL);
    wait_for_exit(process_.pid, kLimit);
  }
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  /// Its exit status, waited for.
  int status() {
    const auto code = wait_for_exit(process_.pid, kLimit);
    EXPECT_TRUE(code) << "still running; log: " << log();
    ended_ = code.has_value();
    return code.value_or(-1);
  }
  int signalled(int signal) {
    send_signal(process_, signal);
    return status();
  }
  /// What it wrote to address.json once it listens; null when it ended before.
  nlohmann::json address() {
    const auto deadline = std::chrono::steady_clock::now() + kLimit;
    while (std::chrono::steady_clock::now() < deadline) {
      if (std::filesystem::exists(state_ / "address.json")) {
        auto json = nlohmann::json::parse(read_file(state_ / "address.json"));
        if (json.at("pid") == process_.pid) return json;
      }
      if (wait_for_exit(process_.pid, milliseconds(10))) {
        ended_ = true;
        break;
      }
    }
    ADD_FAILURE() << "does not listen; log: " << log();
    return nullptr;
  }
  std::string log() const { return std::filesystem::exists(log_) ? read_file(log_) : ""; }

 private:
  std::filesystem::path state_, log_;
  ProcessId process_;
  bool ended_ = false;
};

TEST(CoordinatorProgram, ListensAnswersAndEndsOnSigterm) {
  TemporaryFolder folder;
  Coordinator coordinator(folder, {});
  const auto address = coordinator.address();
  EXPECT_EQ(address.at("generation"), 1);
  std::string token = read_file(folder / "state" / "token");
  token.pop_back();
  http::Client client(address.at("address").get<std::string>(), token);
  EXPECT_EQ(client.get("/v1/pipelines").body, "[]");
  EXPECT_EQ(coordinator.signalled(SIGTERM), 0);
}

TEST(CoordinatorProgram, ComesUpOnItsOldPortAfterAKill) {
  TemporaryFolder folder;
  std::string before;
  {
    Coordinator first(folder, {});
    before = first.address().at("address").get<std::string>();
    EXPECT_EQ(first.signalled(SIGKILL), 128 + SIGKILL);
  }
  Coordinator second(folder, {});
  const auto address = second.address();
  EXPECT_EQ(address.at("address"), before);
  EXPECT_EQ(address.at("generation"), 2);
}

TEST(CoordinatorProgram, TakesAnotherPortWhenItsOldOneIsTaken) {
  TemporaryFolder folder, other;
  std::string port;
  {
    Coordinator first(folder, {});
    const auto address = first.address().at("address").get<std::string>();
    port = address.substr(address.rfind(':') + 1);
    first.signalled(SIGKILL);
  }
  Coordinator thief(other, {"--listen", "127.0.0.1:" + port});
  EXPECT_EQ(thief.address().at("address"), "127.0.0.1:" + port);
  Coordinator second(folder, {});
  EXPECT_NE(second.address().at("address"), "127.0.0.1:" + port);
}

TEST(CoordinatorProgram, RefusesAPortThatIsTakenAndSaysHowToFindByWhom) {
  TemporaryFolder folder, other;
  Coordinator first(folder, {});
  const auto address = first.address().at("address").get<std::string>();
  Coordinator second(other, {"--listen", address});
  EXPECT_EQ(second.status(), 78);
  EXPECT_THAT(second.log(), AllOf(HasSubstr(address.substr(address.rfind(':') + 1)), HasSubstr("ss -ltnp")));
}

TEST(CoordinatorProgram, RefusesAStateFolderInUse) {
  TemporaryFolder folder;
  Coordinator first(folder, {});
  const auto pid = first.address().at("pid").get<int>();
  Coordinator second(folder, {});
  EXPECT_EQ(second.status(), 78);
  EXPECT_THAT(second.log(), HasSubstr("process " + std::to_string(pid)));
}

TEST(CoordinatorProgram, EndsAtTheEndOfItsParentsPipe) {
  TemporaryFolder folder;
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  Coordinator coordinator(folder, {"--parent-fd", std::to_string(ends[0])}, ends[0]);
  close(ends[0]);
  coordinator.address();
  close(ends[1]);
  EXPECT_EQ(coordinator.status(), 0);
}

TEST(CoordinatorProgram, IgnoresCtrlCWhereAParentDecides) {
  TemporaryFolder folder;
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  Coordinator coordinator(folder, {"--parent-fd", std::to_string(ends[0])}, ends[0]);
  close(ends[0]);
  const auto address = coordinator.address();
  ASSERT_EQ(kill(address.at("pid").get<pid_t>(), SIGINT), 0);
  http::Client client(address.at("address").get<std::string>());
  EXPECT_EQ(client.get("/healthz").status, 200);
  close(ends[1]);
  EXPECT_EQ(coordinator.status(), 0);
}

TEST(CoordinatorProgram, TellsAWrongCommandLineFromAWrongState) {
  TemporaryFolder folder;
  EXPECT_EQ(Coordinator(folder, {"--nonsense"}).status(), 64);
  EXPECT_EQ(Coordinator(folder, {"--listen", "here"}).status(), 78);
  EXPECT_EQ(Coordinator(folder, {"--parent-fd", "77"}).status(), 78);
  write_file_atomically(folder / "state" / "state.db", std::string(5000, 'x'));
  Coordinator damaged(folder, {});
  EXPECT_EQ(damaged.status(), 78);
  EXPECT_THAT(damaged.log(), HasSubstr("damaged"));
}

}  // namespace
}  // namespace cosub::coordinator
