#include "common/process.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <string_view>
#include <system_error>

#include "common/atomic_file.h"
#include "common/descriptor.h"

namespace cosub {
namespace {

struct ProcessStatus {
  char state = '?';
  std::uint64_t start_time = 0;
};

/// Fields 3 and 22 of /proc/PID/stat. The name in field 2 may hold anything, so counting starts at the last
/// ')'.
std::optional<ProcessStatus> status_of(pid_t pid) {
  std::string text;
  try {
    text = read_file(fmt::format("/proc/{}/stat", pid));
  } catch (const IoError&) {
    return std::nullopt;  // gone, also while it was read (ESRCH)
  }
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= text.size()) return std::nullopt;
  ProcessStatus status;
  status.state = text[name_end + 2];
  std::size_t at = name_end + 2;
  for (int field = 3; field < 22; ++field) {
    at = text.find(' ', at);
    if (at == std::string::npos) return std::nullopt;
    ++at;
  }
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), status.start_time);
  if (error != std::errc()) return std::nullopt;
  return status;
}

Descriptor open_pidfd(pid_t pid) {
  return Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

/// True where one of the NUL-separated entries is `wanted`.
bool has_entry(std::string_view entries, std::string_view wanted) {
  while (!entries.empty()) {
    const std::size_t end = entries.find('\0');
    if (entries.substr(0, end) == wanted) return true;
    if (end == std::string_view::npos) return false;
    entries.remove_prefix(end + 1);
  }
  return false;
}

std::string read_or_empty(const std::string& path) {
  try {
    return read_file(path);
  } catch (const IoError&) {
    return {};  // gone, or another user's
  }
}

bool belongs_to_attempt(pid_t pid, const std::string& uuid) {
  const std::string variable = "COSUB_ATTEMPT=" + uuid;
  const std::string command = read_or_empty(fmt::format("/proc/{}/cmdline", pid));
  if (has_entry(command, variable) || has_entry(command, "--attempt=" + uuid)) return true;
  const std::string option = std::string("--attempt") + '\0' + uuid;
  if (command.find(option + '\0') != std::string::npos) return true;
  return has_entry(read_or_empty(fmt::format("/proc/{}/environ", pid)), variable);
}

}  // namespace

std::optional<std::uint64_t> start_time_of(pid_t pid) {
  const auto status = status_of(pid);
  if (!status) return std::nullopt;
  return status->start_time;
}

bool is_alive(const ProcessId& id) {
  const auto status = status_of(id.pid);
  return status && status->start_time == id.start_time && status->state != 'Z' && status->state != 'X';
}

bool send_signal(const ProcessId& id, int signal) {
  if (id.pid <= 0) return false;
  const Descriptor pidfd = open_pidfd(id.pid);
  if (!pidfd.valid()) {
    if (errno == ESRCH || errno == EINVAL) return false;
    throw IoError(fmt::format("cannot open process {}: {}", id.pid, std::generic_category().message(errno)),
                  errno);
  }
  // The descriptor holds on to one process; only now does the start time say whether it is the one that is
  // meant.
  if (!is_alive(id)) return false;
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0) return true;
  if (errno == ESRCH) return false;
  throw IoError(fmt::format("cannot send signal {} to process {}: {}", signal, id.pid,
                            std::generic_category().message(errno)),
                errno);
}

std::optional<int> wait_for_exit(pid_t child, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  Descriptor pidfd;
  for (;;) {
    int status = 0;
    const pid_t result = ::waitpid(child, &status, WNOHANG);
    if (result == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (result < 0 && errno != EINTR)
      throw IoError(
          fmt::format("cannot wait for process {}: {}", child, std::generic_category().message(errno)),
          errno);
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return std::nullopt;
    if (!pidfd.valid()) pidfd = open_pidfd(child);
    if (!pidfd.valid())
      throw IoError(fmt::format("cannot open process {}: {}", child, std::generic_category().message(errno)),
                    errno);
    pollfd waited{pidfd.get(), POLLIN, 0};
    const auto wait_ms = std::min<std::chrono::milliseconds::rep>(left.count(), INT_MAX);
    if (::poll(&waited, 1, static_cast<int>(wait_ms)) < 0 && errno != EINTR)
      throw IoError(
          fmt::format("cannot wait for process {}: {}", child, std::generic_category().message(errno)),
          errno);
  }
}

bool die_with_parent() {
  const pid_t parent = ::getppid();
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
    throw IoError("cannot ask for a signal at the parent's death", errno);
  if (::getppid() != parent) return false;
  // Orphans belong to process 1. Where process 1 is the launcher itself (a container), its children share its
  // session.
  return parent != 1 || ::getsid(0) == ::getsid(1);
}

std::vector<ProcessId> find_processes_of_attempt(const std::string& uuid) {
  std::vector<ProcessId> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc", error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    pid_t pid = 0;
    const auto [rest, failed] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (failed != std::errc() || rest != name.data() + name.size() || pid == ::getpid()) continue;
    struct stat owner {};
    if (::stat(entry->path().c_str(), &owner) != 0 || owner.st_uid != ::geteuid()) continue;
    if (!belongs_to_attempt(pid, uuid)) continue;
    const auto status = status_of(pid);
    if (status && status->state != 'Z' && status->state != 'X') found.push_back({pid, status->start_time});
  }
  if (error) throw io_error("list", "/proc", error.value());
  return found;
}

std::string boot_id() {
  std::string text = read_file("/proc/sys/kernel/random/boot_id");
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string host_name() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0)
    throw IoError("cannot ask for the host's name", errno);
  return name.data();
}

std::string new_uuid() {
  std::array<std::uint8_t, 16> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    throw IoError("the kernel gave no random bytes", errno);
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0F) | 0x40);
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3F) | 0x80);
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text;
}

void name_thread(std::string_view name) {
  constexpr std::size_t kMostCharacters = 15;  // of Linux
  pthread_setname_np(pthread_self(), std::string(name.substr(0, kMostCharacters)).c_str());
}

std::filesystem::path executable_folder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

}  // namespace cosub
