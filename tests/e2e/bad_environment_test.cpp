// What surrounds a run and can be wrong: ports that are taken, tokens, and MPI itself.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/http.h"
#include "launcher/commands/connection.h"
#include "tests/e2e/bad_input.h"

namespace cosub::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

/// A loopback port that somebody listens on.
class TakenPort {
 public:
  TakenPort() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(socket_, generic, size) != 0 || listen(socket_, 1) != 0 ||
        getsockname(socket_, generic, &size) != 0)
      throw std::runtime_error("no port to be had");
    port_ = ntohs(address.sin_port);
  }
  ~TakenPort() { close(socket_); }
  TakenPort(const TakenPort&) = delete;
  TakenPort& operator=(const TakenPort&) = delete;
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  int socket_;
  int port_ = 0;
};

class Environment : public BadInput {
 protected:
  fs::path state() const { return folder_ / "state"; }

  std::vector<std::string> coordinator(const fs::path& state, const std::string& listen = "") const {
    std::vector<std::string> argv{program("cosub-coordinator"), "--state", state};
    if (!listen.empty()) argv.insert(argv.end(), {"--listen", listen});
    return argv;
  }

  /// Starts one and waits until it can be talked to. Its address.
  std::string start_coordinator(const fs::path& state) {
    coordinator_.emplace(coordinator(state), folder_ / "coordinator.output");
    for (const auto end = std::chrono::steady_clock::now() + 30s; std::chrono::steady_clock::now() < end;) {
      const auto endpoint =
          fs::exists(state / "address.json") ? commands::read_endpoint(state) : std::nullopt;
      if (endpoint && endpoint->process == coordinator_->process()) return endpoint->address;
      if (coordinator_->wait(20ms)) break;
    }
    throw std::runtime_error("the coordinator does not start: " + coordinator_->output());
  }
  void end_coordinator() {
    coordinator_->signal(SIGTERM);
    EXPECT_EQ(coordinator_->wait(30s), 0) << coordinator_->output();
  }
  ProgramResult status(const fs::path& state) const {
    return run_program({program("cosub"), "status", "--state", state});
  }

  std::optional<Background> coordinator_;
};

using Port = Environment;

TEST_F(Port, ThatIsTakenIsRefusedWithTheWayToFindItsOwner) {
  const TakenPort taken;
  expect_refusal(run_program(coordinator(state(), taken.address())), ExitCode::kBadInput,
                 {taken.address(), "Address already in use", "ss -ltnp"});
}

TEST_F(Port, OrAddressThatCannotBeIsRefused) {
  expect_refusal(run_program(coordinator(state(), "127.0.0.1:70000")), ExitCode::kBadInput,
                 {"--listen", "127.0.0.1:70000", "HOST:PORT"});
  expect_refusal(run_program(coordinator(state(), "192.0.2.1:7070")), ExitCode::kBadInput,
                 {"192.0.2.1:7070", "Cannot assign requested address"});
}

TEST_F(Port, OfLastTimeThatIsTakenMeanwhileIsReplacedByAFreeOne) {
  const TakenPort taken;
  fs::create_directories(state());
  write_file_atomically(
      state() / "address.json",
      nlohmann::json{{"address", taken.address()}, {"pid", 1}, {"start_time", 1}, {"generation", 1}}.dump());
  const std::string address = start_coordinator(state());
  EXPECT_NE(address, taken.address());
  EXPECT_THAT(coordinator_->output(), HasSubstr(taken.address() + ": Address already in use"));
  expect_success(status(state()));
  end_coordinator();
}

TEST_F(Port, OfAStateFolderThatAnotherCoordinatorHoldsIsNotFoughtOver) {
  start_coordinator(state());
  expect_refusal(run_program(coordinator(state())), ExitCode::kBadInput,
                 {state().string(), "process " + std::to_string(coordinator_->process().pid), "--state"});
  expect_success(status(state()));
  end_coordinator();
}

using Token = Environment;

TEST_F(Token, ThatIsMissingOrWrongIsRefusedByEveryEndpoint) {
  const std::string address = start_coordinator(state());
  http::Client nobody(address), stranger(address, std::string(64, '0'));
  for (http::Client* client : {&nobody, &stranger}) {
    for (const char* target : {"/v1/pipelines", "/v1/pipelines/tiny", "/v1/sd", "/metrics"}) {
      const http::Result result = client->get(target);
      EXPECT_EQ(result.status, 401) << target;
      EXPECT_THAT(nlohmann::json::parse(result.body).at("error").get<std::string>(), HasSubstr("token"));
    }
    EXPECT_EQ(client->post("/v1/pipelines/tiny/stop", "{}").status, 401);
  }
  EXPECT_EQ(nobody.get("/healthz").status, 200);
  end_coordinator();
}

TEST_F(Token, FileThatIsDamagedOrGoneIsNamedWithTheRemedy) {
  start_coordinator(state());
  const fs::path file = state() / "token";
  const std::string token = read_file(file);
  write_file_atomically(file, "00ff\n", 0600);
  expect_refusal(status(state()), ExitCode::kFailure,
                 {file.string(), "does not hold the right token", "start"});
  fs::remove(file);
  expect_refusal(status(state()), ExitCode::kFailure, {file.string(), "No such file", "start"});
  write_file_atomically(file, token, 0600);
  expect_success(status(state()));
  end_coordinator();
  write_file_atomically(file, "00ff\n", 0600);
  expect_refusal(run_program(coordinator(state())), ExitCode::kBadInput, {file.string(), "remove it"});
}

TEST_F(Token, OfAnotherAttemptIsRefused) {
  write_pipeline(replaced(tiny_pipeline(runs()), "epochs: 3", "epochs: 1"));
  expect_success(run());
  const auto token_of = [&](const char* stage) {
    std::string text = read_file(run_folder() / stage / "attempts/1/token");
    return text.substr(0, text.find('\n'));
  };
  const auto launch = nlohmann::json::parse(read_file(run_folder() / "pretrain/attempts/1/launch.json"));
  const std::string uuid = launch.at("uuid");
  const std::string report = protocol::dump(protocol::Report{.uuid = uuid, .attempt = 1});
  const std::string address = start_coordinator(commands::private_state_folder(run_folder()));
  const http::Result other =
      http::Client(address, token_of("export")).post("/v1/attempts/" + uuid + "/report", report);
  EXPECT_EQ(other.status, 401);
  EXPECT_THAT(other.body, HasSubstr("wrong token for attempt " + uuid));
  const http::Result own =
      http::Client(address, token_of("pretrain")).post("/v1/attempts/" + uuid + "/report", report);
  EXPECT_EQ(own.status, 410);  // right, but that attempt is over
  EXPECT_THAT(own.body, HasSubstr("void"));
  end_coordinator();
}

class Mpi : public BadInput {
 protected:
  Mpi() { fs::create_directory(folder_ / "bin"); }

  void write_mpirun(const std::string& script, fs::perms permissions) {
    write_file_atomically(folder_ / "bin" / fs::path("mpirun"), script);
    fs::permissions(folder_ / "bin" / fs::path("mpirun"), permissions);
  }
  ProgramOptions path(const std::string& more = "") const {
    ProgramOptions options;
    options.environment = {{"PATH", (folder_ / "bin").string() + more}};
    return options;
  }
};

TEST_F(Mpi, ThatIsMissingIsSaidBeforeAnythingStarts) {
  expect_refusal(run({}, path()), ExitCode::kBadInput,
                 {"mpirun not found in PATH", "apt-get install openmpi-bin"});
  EXPECT_FALSE(fs::exists(runs()));
}

TEST_F(Mpi, ThatIsNotExecutableCountsAsMissing) {
  write_mpirun("#!/bin/sh\nexit 0\n", fs::perms::owner_read);
  expect_refusal(run({}, path()), ExitCode::kBadInput, {"mpirun not found in PATH"});
}

TEST_F(Mpi, ThatFailsIsQuotedAndTheSameCommandGoesOnWithOneThatWorks) {
  write_mpirun("#!/bin/sh\necho 'no slots today' >&2\nexit 1\n", fs::perms::owner_all);
  expect_refusal(run({}, path(std::string(":") + std::getenv("PATH"))), ExitCode::kFailure,
                 {"mpirun exited with code 1: no slots today", "3 attempts ended so", "logs"});
  expect_success(run());
}

}  // namespace
}  // namespace cosub::testing
