// Rank 0's voice: tells the coordinator every second, and at each change of phase, how far the job is, and
// hears whether it should stop. Owns one thread; every call returns at once. Works on when nobody answers:
// the address in STAGE/coordinator.json is read anew at every reconnect, and attempts/N/status.json is
// written every 30 s anyway.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/exit_code.h"
#include "common/http.h"
#include "common/protocol.h"
#include "common/run_folder.h"

namespace cosub::train {

class Reporter {
 public:
  struct Options {
    StageFolder stage;
    std::filesystem::path attempt_folder;
    std::string uuid;
    std::int64_t attempt = 0;
    std::string token;
    std::chrono::milliseconds every = std::chrono::seconds(1);
    std::chrono::milliseconds status_every = std::chrono::seconds(30);
  };
  Reporter(Options options, std::vector<std::string> metrics_addresses);
  ~Reporter();  // sends the last progress once more, writes status.json
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;

  void update(const protocol::Progress& progress);  // any thread; a new phase is sent at once

 private:
  void loop();
  void send(const protocol::Report& report);
  void obey(const protocol::Directive& directive);
  void write_status(const protocol::Report& report);
  [[noreturn]] void end_at_once(const std::string& reason, ExitCode code);

  Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  protocol::Report report_;               // guarded by mutex_
  bool urgent_ = false, ending_ = false;  // guarded by mutex_
  std::optional<http::Client> client_;    // the thread's own from here on
  std::int64_t generation_ = 0;
  bool reachable_ = true;
  std::chrono::steady_clock::time_point last_status_{};
  std::thread thread_;
};

}  // namespace cosub::train
