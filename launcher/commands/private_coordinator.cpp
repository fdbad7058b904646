#include "launcher/commands/private_coordinator.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <thread>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/text.h"

namespace cosub::commands {

using std::chrono::steady_clock;
constexpr auto kStartLimit = std::chrono::seconds(30);
constexpr auto kEndLimit = std::chrono::seconds(90);
constexpr std::size_t kMaxRestartsPerMinute = 10;

PrivateCoordinator::PrivateCoordinator(std::filesystem::path state_folder)
    : state_folder_(std::move(state_folder)) {
  std::filesystem::create_directories(state_folder_);
  start();
}

PrivateCoordinator::~PrivateCoordinator() {
  connection_.reset();
  if (pipe_write_end_ >= 0) close(pipe_write_end_);
  wait_for_exit(process_.pid, kEndLimit);
}

bool PrivateCoordinator::alive() const {
  return is_alive(process_);
}

void PrivateCoordinator::start() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw IoError(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  if (pipe_write_end_ >= 0) close(pipe_write_end_);
  pipe_write_end_ = ends[1];
  SpawnOptions options;
  options.argv = {(executable_folder() / "cosub-coordinator").string(), "--state", state_folder_.string(),
                  "--parent-fd", std::to_string(ends[0])};
  options.output = state_folder_ / "coordinator.log";
  options.new_session = true;  // Ctrl-C in our terminal is ours to interpret
  options.inherited_fd = ends[0];
  process_ = spawn(options);
  close(ends[0]);
  wait_until_it_answers();
}

void PrivateCoordinator::wait_until_it_answers() {
  const auto deadline = steady_clock::now() + kStartLimit;
  while (steady_clock::now() < deadline) {
    const auto endpoint = read_endpoint(state_folder_);
    if (endpoint && endpoint->process == process_) {
      connection_ = std::make_unique<Connection>(state_folder_);
      return;
    }
    if (const auto code = wait_for_exit(process_.pid, std::chrono::milliseconds(20))) {
      const bool bad_input = *code == static_cast<int>(ExitCode::kBadInput);
      throw IoError(fmt::format("the coordinator ended at its start:\n{}", end_of_log()),
                    bad_input ? ExitCode::kBadInput : ExitCode::kFailure);
    }
  }
  throw IoError(fmt::format("the coordinator did not come up within {} s; its log ({}) ends with:\n{}",
                            kStartLimit.count(), (state_folder_ / "coordinator.log").string(), end_of_log()));
}

void PrivateCoordinator::restart() {
  const auto now = steady_clock::now();
  std::erase_if(restarts_, [&](auto time) { return now - time > std::chrono::minutes(1); });
  if (restarts_.size() >= kMaxRestartsPerMinute) {
    throw IoError(fmt::format("the coordinator died {} times within a minute; its log ({}) ends with:\n{}",
                              restarts_.size(), (state_folder_ / "coordinator.log").string(), end_of_log()));
  }
  restarts_.push_back(now);
  wait_for_exit(process_.pid, std::chrono::milliseconds(0));
  start();
}

std::string PrivateCoordinator::end_of_log() const {
  constexpr std::size_t kLines = 8;
  std::istringstream text(read_file(state_folder_ / "coordinator.log"));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back("  " + line);
  if (lines.empty())
    return fmt::format("  it could not even write its log; {} are free in {}: is the disk full?",
                       format_bytes(static_cast<double>(free_bytes(state_folder_))), state_folder_.string());
  const std::size_t first = lines.size() > kLines ? lines.size() - kLines : 0;
  return fmt::format("{}", fmt::join(lines.begin() + static_cast<std::ptrdiff_t>(first), lines.end(), "\n"));
}

}  // namespace cosub::commands
