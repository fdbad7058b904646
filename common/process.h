// Child processes and the identity of processes that outlive us. A pid alone is never trusted: a process is
// (pid, start time), and the start time is field 22 of /proc/PID/stat. No shell is ever involved.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cosub {

struct ProcessId {
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // clock ticks since boot
  bool operator==(const ProcessId&) const = default;
};

struct SpawnOptions {
  std::vector<std::string> argv{};                   // argv[0] is searched in PATH when it has no slash
  std::map<std::string, std::string> environment{};  // added to (or replacing in) ours
  std::vector<std::string> unset{};                  // names removed from ours
  std::filesystem::path output{};                    // stdout and stderr appended here; empty: inherited
  std::filesystem::path errors{};                    // stderr appended here instead; empty: as said above
  std::filesystem::path working_directory{};         // empty: ours
  bool new_session = false;                          // setsid: outlives us and our terminal
  // PDEATHSIG=KILL. The kernel means the thread that called spawn: call it from one that lives as long as we
  // do.
  bool die_with_parent = false;
  int inherited_fd = -1;  // one descriptor kept open across exec under the same number
};

/// fork + exec. IoError (naming the program and the remedy) when the program cannot be executed: the child's
/// errno comes back through a close-on-exec pipe, so success means that the program runs. stdin is /dev/null.
ProcessId spawn(const SpawnOptions& options);

std::optional<std::uint64_t> start_time_of(pid_t pid);
bool is_alive(const ProcessId& id);                 // false for zombies and for a reused pid
bool send_signal(const ProcessId& id, int signal);  // false when it is gone; checks identity through a pidfd

/// Exit status of our own child: exit code, or 128 + signal. Waits at most `limit`; nullopt when it still
/// runs.
std::optional<int> wait_for_exit(pid_t child, std::chrono::milliseconds limit);

/// For the start of main(): die (SIGKILL) with the parent; returns false when the parent is already gone.
bool die_with_parent();

/// Every other live process of this user whose environment holds COSUB_ATTEMPT=uuid, or whose command line
/// holds that or `--attempt uuid`. Never the caller itself.
std::vector<ProcessId> find_processes_of_attempt(const std::string& uuid);

std::string boot_id();  // /proc/sys/kernel/random/boot_id
std::string host_name();
std::string new_uuid();  // random, RFC 4122 version 4
/// What top -H, gdb and perf call the calling thread: the first 15 characters of it.
void name_thread(std::string_view name);
std::filesystem::path executable_folder();  // where this program lies: its siblings are found there

}  // namespace cosub
