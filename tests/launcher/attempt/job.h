// One attempt of fake ranks under the real wrapper and the real mpirun, for tests. Kills what is left at its
// end.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <thread>

#include "common/atomic_file.h"
#include "launcher/backends/mpirun.h"
#include "tests/support/temporary_folder.h"

namespace cosub::launcher {

/// Polls until `event` holds; false after `limit`.
inline bool wait_until(const std::function<bool()>& event,
                       std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!event()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

class Job {
 public:
  explicit Job(std::vector<std::string> actions, std::int64_t ranks = 2) {
    spec.uuid = new_uuid();
    spec.attempt = 1;
    spec.attempt_folder = temporary_.path();
    spec.worker_argv = {COSUB_FAKE_RANK};
    for (std::string& action : actions) {
      const std::size_t at = action.find("FOLDER");
      if (at != std::string::npos) action.replace(at, 6, folder().string());
      spec.worker_argv.push_back(action);
    }
    spec.ranks = ranks;
  }
  ~Job() {
    EXPECT_TRUE(backend.kill_leftovers(spec.uuid));
    if (wrapper.pid > 0) wait_for_exit(wrapper.pid, std::chrono::seconds(5));
  }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  const std::filesystem::path& folder() const { return temporary_.path(); }

  void start() { wrapper = backend.start(spec); }

  /// Another wrapper for the same folder, as a test's own child.
  ProcessId start_wrapper(const std::string& uuid, const std::string& log_name = "wrapper.log") const {
    SpawnOptions options;
    options.argv = {COSUB_ATTEMPT_PROGRAM, folder().string(), "--attempt", uuid};
    options.output = folder() / log_name;
    return spawn(options);
  }

  /// Waits until every rank has got as far as its ready=FOLDER.
  void wait_until_ready() {
    for (std::int64_t rank = 0; rank < spec.ranks; ++rank) {
      ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(ready_file(rank)); })) << log();
    }
  }

  ProcessId rank_process(std::int64_t rank) const {
    const pid_t pid = std::stoi(read_file(ready_file(rank)));
    return {pid, start_time_of(pid).value_or(0)};
  }

  ProcessId mpirun_process() const {
    for (const ProcessId& process : find_processes_of_attempt(spec.uuid)) {
      const std::string link = "/proc/" + std::to_string(process.pid) + "/comm";
      if (read_file(link) == "mpirun\n") return process;
    }
    return {};
  }

  /// Waits for the wrapper's end; its exit.json, after which nothing of the attempt may be alive.
  ExitRecord finish() {
    wrapper_status = wait_for_exit(wrapper.pid, std::chrono::seconds(30));
    EXPECT_TRUE(wrapper_status.has_value()) << "the wrapper still runs; " << log();
    if (wrapper_status) wrapper.pid = 0;
    EXPECT_TRUE(find_processes_of_attempt(spec.uuid).empty());
    EXPECT_FALSE(std::filesystem::exists("/dev/shm/cosub-" + spec.uuid));
    const auto record = read_exit(folder());
    EXPECT_TRUE(record.has_value()) << log();
    return record.value_or(ExitRecord{});
  }

  std::string log() const {
    std::ifstream file(folder() / "wrapper.log");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  LaunchSpec spec;
  ProcessId wrapper;
  std::optional<int> wrapper_status;
  MpirunBackend backend{COSUB_ATTEMPT_PROGRAM};

 private:
  std::filesystem::path ready_file(std::int64_t rank) const {
    return folder() / ("ready-" + std::to_string(rank));
  }
  testing::TemporaryFolder temporary_;
};

}  // namespace cosub::launcher
