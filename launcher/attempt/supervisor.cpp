#include "launcher/attempt/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>

#include "common/descriptor.h"
#include "common/error.h"
#include "launcher/backends/mpirun.h"
#include "launcher/backends/mpirun_command.h"

namespace cosub::launcher {
namespace {

using namespace std::chrono_literals;

// mpirun drops a SIGUSR1 that comes while its ranks are being started, so the request is repeated.
constexpr auto kRepeat = 1s;
// On TERM mpirun gives its ranks about a second before it kills them.
constexpr auto kTermLimit = 5s;
// Ranks die with mpirun at once, or within 2.7 s where they had not yet asked the kernel for that.
constexpr auto kLeftoverGrace = 3s;
constexpr auto kLeftoverPause = 50ms;

[[noreturn]] void fail(const char* call) {
  throw IoError(std::string("cosub-attempt: ") + call + ": " + std::strerror(errno), errno);
}

std::vector<std::string> names_of_environment() {
  std::vector<std::string> names;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    names.push_back(text.substr(0, text.find('=')));
  }
  return names;
}

}  // namespace

StopSignals::StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGUSR1, SIGQUIT, SIGINT, SIGHUP}) sigaddset(&set, signal);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) fail("sigprocmask");
  descriptor_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (descriptor_ < 0) fail("signalfd");
}

StopSignals::~StopSignals() {
  close(descriptor_);
}

StopStage StopSignals::take() {
  StopStage asked = StopStage::kNone;
  signalfd_siginfo info;
  while (read(descriptor_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGQUIT) asked = StopStage::kAtOnce;
    if ((signal == SIGTERM || signal == SIGUSR1) && asked == StopStage::kNone) asked = StopStage::kAsked;
  }
  return asked;
}

JobEnd Supervisor::run() {
  JobEnd end;
  end.grace = spec_.grace;
  end.stop = signals_.take();
  if (end.stop != StopStage::kNone) {
    end.started = false;
    return end;
  }
  start_mpirun();
  try {
    end.wait_status = wait_for_mpirun();
  } catch (...) {
    stop_ = StopStage::kAtOnce;  // whoever catches this records an end, so there has to be one
    clear_leftovers();
    throw;
  }
  clear_leftovers();
  end.stop = stop_;
  return end;
}

int Supervisor::wait_for_mpirun() {
  const Descriptor descriptor(static_cast<int>(syscall(SYS_pidfd_open, mpirun_.pid, 0)));
  if (!descriptor.valid()) fail("pidfd_open");
  int status = 0;
  for (;;) {
    const pid_t ended = waitpid(mpirun_.pid, &status, WNOHANG);
    if (ended == mpirun_.pid) return status;
    if (ended < 0 && errno != EINTR) fail("waitpid");
    wait_for_event(descriptor.get());
  }
}

void Supervisor::start_mpirun() {
  SpawnOptions options;
  options.argv = mpirun_command(spec_);
  options.environment = mpirun_environment(spec_, geteuid() == 0);
  options.unset = names_to_unset(names_of_environment());
  options.output = spec_.attempt_folder / "wrapper.log";
  options.die_with_parent = true;
  mpirun_ = spawn(options);
}

void Supervisor::wait_for_event(int mpirun_descriptor) {
  int timeout_ms = -1;
  if (next_) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next_ - Clock::now());
    timeout_ms = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1000));
  }
  pollfd descriptors[] = {{signals_.descriptor(), POLLIN, 0}, {mpirun_descriptor, POLLIN, 0}};
  if (poll(descriptors, 2, timeout_ms) < 0 && errno != EINTR) fail("poll");
  obey(signals_.take());
  if (next_ && Clock::now() >= *next_) escalate();
}

void Supervisor::obey(StopStage request) {
  if (request == StopStage::kAtOnce && stop_ != StopStage::kAtOnce) {
    stop_ = StopStage::kAtOnce;
    escalate();
  } else if (request == StopStage::kAsked && stop_ == StopStage::kNone) {
    stop_ = StopStage::kAsked;
    asked_at_ = Clock::now();
    send_signal(mpirun_, SIGUSR1);
    next_ = std::min(asked_at_ + kRepeat, asked_at_ + spec_.grace);
  }
}

void Supervisor::escalate() {
  const auto now = Clock::now();
  switch (stop_) {
    case StopStage::kNone:
      return;
    case StopStage::kAsked:
      if (now < asked_at_ + spec_.grace) {
        if (has_ranks()) send_signal(mpirun_, SIGUSR1);
        next_ = std::min(now + kRepeat, asked_at_ + spec_.grace);
        return;
      }
      fprintf(stderr, "cosub-attempt: no end within the grace; sending SIGTERM\n");
      stop_ = StopStage::kTerminated;
      send_signal(mpirun_, SIGTERM);
      next_ = now + kTermLimit;
      return;
    case StopStage::kTerminated:
      fprintf(stderr, "cosub-attempt: no end after SIGTERM; sending SIGKILL\n");
      stop_ = StopStage::kKilled;
      [[fallthrough]];
    case StopStage::kKilled:
    case StopStage::kAtOnce:
      kill_job();
      next_ = now + 1s;
  }
}

/// Whether mpirun has anybody to pass a signal on to. Without that it may be on its way out, no longer handle
/// SIGUSR1, and die of it instead of telling us the job's exit code.
bool Supervisor::has_ranks() const {
  return find_processes_of_attempt(spec_.uuid).size() > 1;
}

void Supervisor::kill_job() {
  kill_processes_of_attempt(spec_.uuid);
  send_signal(mpirun_, SIGKILL);
}

void Supervisor::clear_leftovers() {
  const bool wait_first = stop_ != StopStage::kKilled && stop_ != StopStage::kAtOnce;
  const auto deadline = Clock::now() + (wait_first ? Clock::duration(kLeftoverGrace) : Clock::duration(0));
  while (Clock::now() < deadline && !find_processes_of_attempt(spec_.uuid).empty()) {
    std::this_thread::sleep_for(kLeftoverPause);
  }
  MpirunBackend backend;
  if (!backend.kill_leftovers(spec_.uuid)) {
    fprintf(stderr, "cosub-attempt: processes of this attempt survive SIGKILL (a hanging disk or device?)\n");
  }
}

}  // namespace cosub::launcher
