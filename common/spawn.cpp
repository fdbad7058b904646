// spawn() of process.h. Everything that allocates happens before fork; the child makes async-signal-safe
// calls only.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

#include "common/descriptor.h"
#include "common/process.h"

namespace cosub {
namespace {

/// Where the child failed, sent through the error pipe as two ints: this and errno.
enum Failure : int { kSession, kParentGone, kFolder, kDescriptors, kExec };

struct Prepared {
  std::string program;
  std::vector<char*> argv;
  std::vector<std::string> environment_text;
  std::vector<char*> environment;
  Descriptor input, output, errors;
  pid_t parent = 0;
};

bool is_executable(const std::string& path) {
  return ::access(path.c_str(), X_OK) == 0;
}

std::string find_in_path(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  const char* path = std::getenv("PATH");
  std::string folders = path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path;
  for (std::size_t begin = 0; begin <= folders.size();) {
    const std::size_t end = std::min(folders.find(':', begin), folders.size());
    const std::string folder = end == begin ? "." : folders.substr(begin, end - begin);
    const std::string candidate = folder + "/" + program;
    if (is_executable(candidate) && !std::filesystem::is_directory(candidate)) return candidate;
    begin = end + 1;
  }
  throw IoError(fmt::format("program {} not found in PATH; install it or add its folder to PATH", program),
                ENOENT);
}

std::vector<std::string> build_environment(const SpawnOptions& options) {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    if (equals != std::string::npos) variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  for (const std::string& name : options.unset) variables.erase(name);
  for (const auto& [name, value] : options.environment) variables[name] = value;
  std::vector<std::string> environment;
  for (const auto& [name, value] : variables) environment.push_back(name + "=" + value);
  return environment;
}

/// A descriptor above the standard three, so that dup2 onto those cannot overwrite one that is still needed.
Descriptor above_standard(Descriptor file, const std::filesystem::path& path) {
  if (file.get() > 2) return file;
  Descriptor moved(::fcntl(file.get(), F_DUPFD_CLOEXEC, 3));
  if (!moved.valid()) throw io_error("open", path, errno);
  return moved;
}

Prepared prepare(const SpawnOptions& options) {
  if (options.argv.empty()) throw std::invalid_argument("spawn: argv is empty");
  if (options.inherited_fd >= 0 && options.inherited_fd <= 2)
    throw std::invalid_argument("spawn: the standard descriptors cannot be handed on as inherited_fd");
  Prepared prepared;
  prepared.program = find_in_path(options.argv[0]);
  for (const std::string& argument : options.argv)
    prepared.argv.push_back(const_cast<char*>(argument.c_str()));
  prepared.argv.push_back(nullptr);
  prepared.environment_text = build_environment(options);
  for (std::string& variable : prepared.environment_text) prepared.environment.push_back(variable.data());
  prepared.environment.push_back(nullptr);
  prepared.input = above_standard(open_file("/dev/null", O_RDONLY, "open"), "/dev/null");
  if (!options.output.empty())
    prepared.output =
        above_standard(open_file(options.output, O_WRONLY | O_CREAT | O_APPEND, "append to"), options.output);
  if (!options.errors.empty())
    prepared.errors =
        above_standard(open_file(options.errors, O_WRONLY | O_CREAT | O_APPEND, "append to"), options.errors);
  prepared.parent = ::getpid();
  return prepared;
}

[[noreturn]] void fail(int pipe, int where) {
  const std::array<int, 2> report = {where, errno};
  // Nobody is left to tell when the pipe is gone too; the exit code has to do.
  const ssize_t ignored = ::write(pipe, report.data(), sizeof report);
  static_cast<void>(ignored);
  ::_exit(127);
}

void reset_signals() {
  struct sigaction defaults {};
  defaults.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal)
    ::sigaction(signal, &defaults, nullptr);  // KILL, STOP: refused, as is right
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void run_child(const SpawnOptions& options, const Prepared& prepared, int pipe) {
  if (options.new_session && ::setsid() < 0) fail(pipe, kSession);
  if (options.die_with_parent) {
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail(pipe, kSession);
    if (::getppid() != prepared.parent) fail(pipe, kParentGone);
  }
  if (!options.working_directory.empty() && ::chdir(options.working_directory.c_str()) != 0)
    fail(pipe, kFolder);
  if (::dup2(prepared.input.get(), STDIN_FILENO) < 0) fail(pipe, kDescriptors);
  if (prepared.output.valid()) {
    if (::dup2(prepared.output.get(), STDOUT_FILENO) < 0) fail(pipe, kDescriptors);
    if (::dup2(prepared.output.get(), STDERR_FILENO) < 0) fail(pipe, kDescriptors);
  }
  if (prepared.errors.valid() && ::dup2(prepared.errors.get(), STDERR_FILENO) < 0) fail(pipe, kDescriptors);
  // Libraries open sockets without O_CLOEXEC; a wrapper that inherits the coordinator's listening socket
  // would keep its port taken after the coordinator's death. Kernels before 5.11 refuse this; then it is as
  // it was.
  ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
  if (options.inherited_fd >= 0 && ::fcntl(options.inherited_fd, F_SETFD, 0) != 0) fail(pipe, kDescriptors);
  reset_signals();
  ::execve(prepared.program.c_str(), prepared.argv.data(), prepared.environment.data());
  fail(pipe, kExec);
}

IoError explain(const std::array<int, 2>& report, const SpawnOptions& options, const Prepared& prepared) {
  const auto [where, error] = report;
  switch (where) {
    case kFolder:
      return io_error("change into", options.working_directory, error);
    case kParentGone:
      return IoError(fmt::format("cannot start {}: the process that asked for it is gone", prepared.program),
                     error);
    case kExec:
      return IoError(fmt::format("cannot execute {}: {}; check that it is installed and executable",
                                 prepared.program, std::generic_category().message(error)),
                     error);
    default:
      return IoError(
          fmt::format("cannot start {}: {}", prepared.program, std::generic_category().message(error)),
          error);
  }
}

/// fork with all signals blocked, so that none of our handlers runs in the child before it has reset them.
pid_t fork_quietly(sigset_t* before) {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, before);
  return ::fork();
}

}  // namespace

ProcessId spawn(const SpawnOptions& options) {
  const Prepared prepared = prepare(options);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw IoError("cannot make a pipe", errno);
  const Descriptor read_end(ends[0]);
  Descriptor write_end(ends[1]);
  if (write_end.get() <= 2) write_end = above_standard(std::move(write_end), "pipe");

  sigset_t before;
  const pid_t child = fork_quietly(&before);
  if (child == 0) run_child(options, prepared, write_end.get());
  const int fork_error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (child < 0)
    throw IoError(fmt::format("cannot start {}: {}; too many processes or too little memory",
                              prepared.program, std::generic_category().message(fork_error)),
                  fork_error);
  write_end.reset();

  std::array<int, 2> report{};
  ssize_t count = 0;
  do {
    count = ::read(read_end.get(), report.data(), sizeof report);
  } while (count < 0 && errno == EINTR);
  if (count == static_cast<ssize_t>(sizeof report)) {
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
    throw explain(report, options, prepared);
  }
  return {child, start_time_of(child).value_or(0)};
}

}  // namespace cosub
