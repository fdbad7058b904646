// cosub-coordinator: owns pipelines and their attempts (docs/architecture.md). Parses, logs, runs, maps
// errors to exit codes; what it does is in server.cpp and supervisor.cpp.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "common/error.h"
#include "common/log.h"
#include "common/version.h"
#include "coordinator/server.h"

namespace {

constexpr const char* kFooter = R"(
Pipelines are submitted with `cosub submit FILE` and looked at with `cosub status`; `cosub run FILE` starts a private
coordinator by itself. Everything is remembered in STATE/state.db: killed and started again with the same --state, the
coordinator finds its running jobs and goes on. SIGTERM ends the coordinator and leaves the jobs running.

Examples
  cosub-coordinator --state ~/.local/state/cosub --listen 127.0.0.1:7070
  cosub-coordinator --state /var/lib/cosub --listen 0.0.0.0:7070 --advertise login1

The bearer token for its API is in STATE/token (readable by its owner only); the address is in STATE/address.json.
Exit codes: 0 ended as asked, 64 wrong command line, 78 state folder, database or address cannot be used, 1 other.)";

void define(CLI::App& app, cosub::coordinator::ServerOptions& options) {
  app.set_version_flag("--version", std::string(cosub::kVersion));
  app.footer(kFooter);
  app.add_option("--state", options.state, "Folder of its memory, on a local disk; made where there is none")
      ->required();
  app.add_option("--listen", options.listen,
                 "HOST:PORT to listen on (default: 127.0.0.1 and the port of last time, or a free one)");
  app.add_option("--advertise", options.advertise, "HOST[:PORT] that workers on other hosts reach it at");
  app.add_option(
      "--parent-fd", options.parent_fd,
      "Descriptor of a pipe from the starting program: at its end, jobs are checkpointed and stopped, then "
      "the coordinator ends");
  app.add_flag("--allow-network-state", options.allow_network_state,
               "Accept a state folder on NFS, Lustre, ... (SQLite may lose what was committed)");
  app.add_option("--worker", options.worker, "The worker program (default: cosub-worker beside this one)");
  app.add_option("--launcher-flag", options.launcher_flags, "One more flag for mpirun; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
}

}  // namespace

int main(int argc, char** argv) {
  using cosub::ExitCode;
  cosub::coordinator::ServerOptions options;
  CLI::App app(
      "Runs pipelines: starts their stages as MPI jobs, watches them, restarts them, remembers everything");
  define(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  try {
    std::signal(SIGPIPE, SIG_IGN);  // a client that goes away is an error code, not the end
    cosub::init_logging("coordinator");
    cosub::coordinator::run_server(options);
    return static_cast<int>(ExitCode::kDone);
  } catch (const cosub::Error& error) {
    fmt::print(stderr, "cosub-coordinator: {}\n", error.what());
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "cosub-coordinator: {}\n", error.what());
    return static_cast<int>(ExitCode::kFailure);
  }
}
