#include "coordinator/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <charconv>
#include <chrono>
#include <csignal>
#include <map>
#include <memory>
#include <optional>

#include "common/error.h"
#include "common/exit_code.h"
#include "common/http.h"
#include "common/process.h"
#include "common/version.h"
#include "coordinator/api.h"
#include "coordinator/state_folder.h"
#include "coordinator/store.h"
#include "coordinator/supervisor.h"
#include "coordinator/token.h"

namespace cosub::coordinator {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr auto kTick = std::chrono::milliseconds(200);

struct HostPort {
  std::string host;
  std::uint16_t port = 0;
};

HostPort parse_address(const std::string& text, const std::string& option) {
  const std::size_t colon = text.rfind(':');
  HostPort address;
  if (colon != std::string::npos && colon > 0) {
    address.host = text.substr(0, colon);
    const char* begin = text.data() + colon + 1;
    const auto [end, problem] = std::from_chars(begin, text.data() + text.size(), address.port);
    if (problem == std::errc() && end == text.data() + text.size() && begin != end) return address;
  }
  throw ConfigError(fmt::format("{}: found '{}'; give HOST:PORT, e.g. 127.0.0.1:7070", option, text));
}

class Running {
 public:
  explicit Running(const ServerOptions& options);
  void run();

 private:
  void listen();
  void bind(const std::string& host, std::uint16_t port);
  std::string advertised(const std::string& host) const;
  SupervisorOptions supervisor_options(const std::string& address);
  void tick();
  void wait_for_signals();
  void wait_for_children();
  void wait_for_parent();
  void end_with_jobs(const std::string& reason);
  void end();

  ServerOptions options_;
  StateFolder folder_;
  Store store_;
  std::string token_;
  std::map<std::string, std::unique_ptr<launcher::Backend>> backends_;
  asio::io_context context_{1};
  asio::strand<asio::io_context::executor_type> strand_{context_.get_executor()};
  asio::steady_timer timer_{context_};
  asio::signal_set signals_{context_, SIGTERM, SIGINT};
  asio::signal_set children_{context_, SIGCHLD};
  asio::posix::stream_descriptor parent_{context_};
  std::array<char, 64> parent_bytes_{};
  std::unique_ptr<http::Server> server_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<Api> api_;
  bool ending_ = false;
  std::string end_reason_;
};

Running::Running(const ServerOptions& options)
    : options_(options),
      folder_(options.state, options.allow_network_state),
      store_(folder_.database()),
      token_(token_from(folder_.token())) {
  if (options_.worker.empty()) options_.worker = executable_folder() / "cosub-worker";
  listen();
}

/// Requests are only handled once run() is on, so the handler may name what is made after the port is known.
void Running::bind(const std::string& host, std::uint16_t port) {
  server_ = std::make_unique<http::Server>(
      strand_, host, port, [this](const http::Request& request) { return api_->handle(request); });
}

void Running::listen() {
  std::string host = "127.0.0.1";
  if (!options_.listen.empty()) {
    const HostPort wanted = parse_address(options_.listen, "--listen");
    host = wanted.host;
    try {
      bind(wanted.host, wanted.port);
    } catch (const IoError& problem) {
      throw ConfigError(
          fmt::format("{}. See who has it with `ss -ltnp 'sport = :{}'`, end that, or listen elsewhere",
                      problem.what(), wanted.port));
    }
  } else {
    const auto recorded = folder_.recorded_address();
    try {
      bind(host, recorded && recorded->host == host ? recorded->port : std::uint16_t{0});
    } catch (const IoError& problem) {
      spdlog::warn("{}; a free port is taken instead", problem.what());
      bind(host, 0);
    }
  }
  const std::string address = fmt::format("{}:{}", host, server_->port());
  supervisor_ = std::make_unique<Supervisor>(store_, supervisor_options(advertised(host)));
  api_ = std::make_unique<Api>(*supervisor_, token_);
  folder_.record_address(address, store_.generation());
  spdlog::info("cosub-coordinator {} on http://{}, state in {}, generation {}", kVersion, address,
               options_.state.string(), store_.generation());
}

std::string Running::advertised(const std::string& host) const {
  if (!options_.advertise.empty()) {
    if (options_.advertise.find(':') != std::string::npos) return options_.advertise;
    return fmt::format("{}:{}", options_.advertise, server_->port());
  }
  return fmt::format("{}:{}", host == "0.0.0.0" ? host_name() : host, server_->port());
}

SupervisorOptions Running::supervisor_options(const std::string& address) {
  SupervisorOptions options;
  options.launch = {options_.worker, options_.launcher_flags};
  options.address = address;
  options.now = [] {
    return std::chrono::duration_cast<Instant>(std::chrono::steady_clock::now().time_since_epoch());
  };
  options.backend = [this](const std::string& name) -> launcher::Backend& {
    auto& backend = backends_[name];
    if (!backend) backend = launcher::make_backend(name);
    return *backend;
  };
  return options;
}

void Running::run() {
  asio::post(strand_, [this] { tick(); });
  wait_for_signals();
  wait_for_children();
  if (options_.parent_fd >= 0) {
    // The wrappers outlive us and must not hold the pipe open.
    if (fcntl(options_.parent_fd, F_SETFD, FD_CLOEXEC) != 0)
      throw ConfigError(fmt::format("--parent-fd {}: no such open descriptor", options_.parent_fd));
    error_code error;
    parent_.assign(options_.parent_fd, error);
    if (error) throw ConfigError(fmt::format("--parent-fd {}: {}", options_.parent_fd, error.message()));
    wait_for_parent();
  }
  context_.run();
}

void Running::tick() {
  try {
    // At every tick: what could not be committed for a full disk, or was submitted meanwhile, has to stop
    // too.
    if (ending_) supervisor_->stop_all(end_reason_);
  } catch (const Error& problem) {
    spdlog::error("cannot stop everything yet: {}", problem.what());
  }
  supervisor_->tick();
  if (ending_ && (supervisor_->idle() || supervisor_->blocked_with_nothing_running())) return end();
  timer_.expires_after(kTick);
  timer_.async_wait(asio::bind_executor(strand_, [this](error_code error) {
    if (!error) tick();
  }));
}

void Running::wait_for_signals() {
  signals_.async_wait(asio::bind_executor(strand_, [this](error_code error, int signal) {
    if (error) return;
    if (options_.parent_fd < 0) {
      spdlog::info("signal {}: ending; jobs run on, the next start finds them again", signal);
      return end();
    }
    // Ctrl-C in a shared terminal is for whoever started us: it tells us what to do.
    if (signal == SIGTERM) end_with_jobs("the coordinator was told to end (SIGTERM)");
    wait_for_signals();
  }));
}

/// Wrappers are our children as long as we live: without this they would stay as zombies.
void Running::wait_for_children() {
  children_.async_wait(asio::bind_executor(strand_, [this](error_code error, int) {
    if (error) return;
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    wait_for_children();
  }));
}

void Running::wait_for_parent() {
  parent_.async_read_some(asio::buffer(parent_bytes_),
                          asio::bind_executor(strand_, [this](error_code error, std::size_t) {
                            if (!error) return wait_for_parent();
                            if (error != asio::error::operation_aborted)
                              end_with_jobs("`cosub run` has ended");
                          }));
}

void Running::end_with_jobs(const std::string& reason) {
  spdlog::info("{}: jobs write a checkpoint and stop", reason);
  ending_ = true;
  end_reason_ = reason;
  asio::post(strand_, [this] {
    timer_.cancel();
    tick();
  });
}

void Running::end() {
  server_->stop();
  timer_.cancel();
  context_.stop();
}

}  // namespace

void run_server(const ServerOptions& options) {
  Running running(options);
  running.run();
}

}  // namespace cosub::coordinator
