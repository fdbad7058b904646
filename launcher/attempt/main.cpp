// cosub-attempt ATTEMPT_FOLDER --attempt UUID: the wrapper around one attempt's mpirun. Claims the attempt,
// runs the job, records how it ended. Started by launcher/backends in a session of its own; ends with the
// job's exit code.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/error.h"
#include "common/exit_code.h"
#include "launcher/attempt/record.h"
#include "launcher/attempt/supervisor.h"
#include "launcher/backends/backend.h"

namespace {

using namespace cosub;
using namespace cosub::launcher;
using Clock = std::chrono::steady_clock;

bool claim(const std::filesystem::path& folder) {
  Claim ours;
  ours.owner = "wrapper";
  ours.host = host_name();
  ours.boot_id = boot_id();
  ours.process = {getpid(), start_time_of(getpid()).value_or(0)};
  if (take_claim(folder, ours)) return true;
  const std::optional<Claim> theirs = read_claim(folder);
  fprintf(stderr, "cosub-attempt: %s is claimed by the %s on %s (pid %d); nothing started\n", folder.c_str(),
          theirs ? theirs->owner.c_str() : "?", theirs ? theirs->host.c_str() : "?",
          theirs ? theirs->process.pid : 0);
  return false;
}

LaunchSpec checked_launch(const std::filesystem::path& folder, const std::string& uuid) {
  LaunchSpec spec = read_launch(folder);
  if (spec.uuid != uuid) {
    throw DataError((folder / "launch.json").string() + ": is for attempt " + spec.uuid + ", not for " +
                    uuid);
  }
  const std::string& program = spec.worker_argv.front();
  if (spec.hosts.empty() && access(program.c_str(), X_OK) != 0) {
    throw ConfigError("the worker program " + program + " is missing or not executable: install cosub again");
  }
  return spec;
}

ExitRecord run(const std::filesystem::path& folder, const std::string& uuid, StopSignals& signals) {
  const auto begin = Clock::now();
  ExitRecord record;
  try {
    const LaunchSpec spec = checked_launch(folder, uuid);
    record = conclude(folder, Supervisor(spec, signals).run());
  } catch (const Error& error) {
    record.exit_code = static_cast<int>(error.exit_code());
    record.reason = error.what();
  } catch (const std::exception& error) {
    record.exit_code = static_cast<int>(ExitCode::kFailure);
    record.reason = error.what();
  }
  record.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  fprintf(stderr, "cosub-attempt: ended with code %d: %s\n", record.exit_code, record.reason.c_str());
  return record;
}

}  // namespace

int main(int argc, char** argv) {
  std::filesystem::path folder;
  std::string uuid;
  CLI::App app("Runs one attempt of a stage as an MPI job and records how it ended");
  app.add_option("folder", folder, "STAGE/attempts/N, with launch.json")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--attempt", uuid, "the attempt's UUID")->required();
  try {
    StopSignals signals;
    app.parse(argc, argv);
    folder = std::filesystem::absolute(folder);
    if (!claim(folder)) return static_cast<int>(ExitCode::kFailure);
    const ExitRecord record = run(folder, uuid, signals);
    const bool recorded = record_exit(folder, record, std::chrono::minutes(2));
    return recorded ? record.exit_code : static_cast<int>(ExitCode::kFailure);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  } catch (const std::exception& error) {
    fprintf(stderr, "cosub-attempt: %s\n", error.what());
    return static_cast<int>(ExitCode::kFailure);
  }
}
