#include "launcher/backends/mpirun.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <thread>

#include "common/atomic_file.h"
#include "common/error.h"
#include "launcher/backends/mpirun_command.h"

namespace cosub::launcher {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

// A process that SIGKILL does not end within this time hangs in the kernel (a dead disk, a lost mount).
constexpr auto kKillLimit = 10s;
constexpr auto kKillPause = 20ms;

bool in_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (access((fs::path(folder) / program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

std::string environment_lines(const std::map<std::string, std::string>& environment) {
  std::string text;
  for (const auto& [name, value] : environment) text += shell_quoted({name + "=" + value}) + "\n";
  return text;
}

std::string host_lines(const LaunchSpec& spec) {
  if (spec.hosts.empty()) return host_name() + ":" + std::to_string(spec.ranks) + "\n";
  std::string text;
  for (const std::string& host : spec.hosts) text += host + "\n";
  return text;
}

bool is_here(const Claim& claim) {
  return claim.host == host_name() && claim.boot_id == boot_id();
}

}  // namespace

MpirunBackend::MpirunBackend(fs::path wrapper) : wrapper_(std::move(wrapper)) {}

std::vector<std::string> MpirunBackend::command(const LaunchSpec& spec) const {
  return mpirun_command(spec);
}

std::optional<std::string> MpirunBackend::unavailable() const {
  if (in_path("mpirun")) return std::nullopt;
  return "mpirun not found in PATH: install it (apt-get install openmpi-bin) or add its folder to PATH";
}

ProcessId MpirunBackend::start(const LaunchSpec& spec) {
  write_launch(spec);
  std::vector<std::string> shown{"env"};
  for (const auto& [name, value] : mpirun_environment(spec, geteuid() == 0))
    shown.push_back(name + "=" + value);
  for (const std::string& word : mpirun_command(spec)) shown.push_back(word);
  write_file_atomically(spec.attempt_folder / "command", shell_quoted(shown) + "\n");
  write_file_atomically(spec.attempt_folder / "environment", environment_lines(rank_environment(spec)));
  write_file_atomically(spec.attempt_folder / "hosts", host_lines(spec));

  SpawnOptions options;
  const fs::path wrapper = wrapper_.empty() ? executable_folder() / "cosub-attempt" : wrapper_;
  options.argv = {wrapper.string(), spec.attempt_folder.string(), "--attempt", spec.uuid};
  options.environment = {{"COSUB_ATTEMPT", spec.uuid}};
  options.output = spec.attempt_folder / "wrapper.log";
  options.new_session = true;
  return spawn(options);
}

Liveness MpirunBackend::probe(const fs::path& attempt_folder, const std::string& uuid) const {
  const std::optional<Claim> claim = read_claim(attempt_folder);
  if (!claim) return find_processes_of_attempt(uuid).empty() ? Liveness::kGone : Liveness::kRunning;
  if (claim->owner != "wrapper") return Liveness::kGone;
  if (claim->host != host_name()) return Liveness::kUnknown;
  return is_here(*claim) && is_alive(claim->process) ? Liveness::kRunning : Liveness::kGone;
}

bool MpirunBackend::stop(const fs::path& attempt_folder, bool now) {
  const int signal = now ? SIGQUIT : SIGTERM;
  if (const std::optional<Claim> claim = read_claim(attempt_folder)) {
    return claim->owner == "wrapper" && is_here(*claim) && send_signal(claim->process, signal);
  }
  // Before the claim nothing but the wrapper carries the UUID.
  bool sent = false;
  for (const ProcessId& process : find_processes_of_attempt(read_launch(attempt_folder).uuid)) {
    sent = send_signal(process, signal) || sent;
  }
  return sent;
}

bool MpirunBackend::kill_leftovers(const std::string& uuid) {
  const auto deadline = std::chrono::steady_clock::now() + kKillLimit;
  // Twice empty: a process in the middle of execve(2) shows no environment for a moment.
  for (int empty_scans = 0; empty_scans < 2;) {
    empty_scans = kill_processes_of_attempt(uuid).empty() ? empty_scans + 1 : 0;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kKillPause);
  }
  std::error_code ignored;  // a scratch folder that stays costs memory, not correctness
  fs::remove_all(scratch_folder(uuid), ignored);
  return true;
}

std::vector<ProcessId> kill_processes_of_attempt(const std::string& uuid) {
  std::vector<ProcessId> found = find_processes_of_attempt(uuid);
  for (const ProcessId& process : found) {
    send_signal(process, SIGKILL);  // false: gone meanwhile, which is what we want
  }
  return found;
}

std::unique_ptr<Backend> make_backend(const std::string& name) {
  if (name == "mpirun") return std::make_unique<MpirunBackend>();
  throw ConfigError("cluster.backend: unknown backend '" + name + "'; allowed: mpirun");
}

}  // namespace cosub::launcher
