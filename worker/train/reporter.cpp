#include "worker/train/reporter.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/process.h"
#include "worker/train/error_record.h"
#include "worker/train/stop_flag.h"

namespace cosub::train {

using std::chrono::steady_clock;

Reporter::Reporter(Options options, std::vector<std::string> metrics_addresses)
    : options_(std::move(options)) {
  report_.uuid = options_.uuid;
  report_.attempt = options_.attempt;
  report_.metrics_addresses = std::move(metrics_addresses);
  thread_ = std::thread([this] {
    name_thread("reporter");
    loop();
  });
}

Reporter::~Reporter() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Reporter::update(const protocol::Progress& progress) {
  std::lock_guard lock(mutex_);
  bool new_phase = progress.phase != report_.progress.phase;
  report_.progress = progress;
  if (!new_phase) return;
  urgent_ = true;
  changed_.notify_one();
}

void Reporter::loop() {
  bool ending = false;
  while (!ending) {
    protocol::Report report;
    bool urgent = false;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, options_.every, [this] { return urgent_ || ending_; });
      urgent = std::exchange(urgent_, false);
      ending = ending_;
      report = report_;
    }
    report.generation = generation_;
    try {
      if (ending || urgent || steady_clock::now() - last_status_ >= options_.status_every)
        write_status(report);
      send(report);
    } catch (const std::exception& error) {
      spdlog::warn("report to the coordinator: {}", error.what());  // training goes on without it
      client_.reset();
    }
  }
}

void Reporter::send(const protocol::Report& report) {
  if (!client_) {
    std::optional<CoordinatorAddress> coordinator = read_coordinator(options_.stage);
    if (!coordinator) return;
    client_.emplace(coordinator->address, options_.token, std::chrono::seconds(5));
  }
  http::Result result = client_->post("/v1/attempts/" + options_.uuid + "/report", protocol::dump(report));
  bool reachable = result.status != 0;
  if (reachable != reachable_) {
    if (reachable)
      spdlog::info("the coordinator answers again");
    else
      spdlog::warn("the coordinator does not answer ({}); training goes on", result.failure);
    reachable_ = reachable;
  }
  if (result.ok()) return obey(protocol::parse<protocol::Directive>(result.body));
  if (result.status == 410) end_at_once("the coordinator says that this attempt is void", ExitCode::kFailure);
  if (reachable) spdlog::warn("the coordinator refused a report ({}): {}", result.status, result.body);
  client_.reset();
}

void Reporter::obey(const protocol::Directive& directive) {
  if (directive.generation < generation_) return;  // from a coordinator that has been replaced since
  generation_ = directive.generation;
  if (directive.action == "stop" && !stop_requested()) {
    spdlog::info("the coordinator asks to stop: finishing the step, then a checkpoint");
    request_stop();
  }
  if (directive.action == "stop_now")
    end_at_once("the coordinator asked to stop at once, without a checkpoint", ExitCode::kInterrupted);
  if (directive.action == "void")
    end_at_once("the coordinator says that this attempt is void", ExitCode::kFailure);
}

void Reporter::write_status(const protocol::Report& report) {
  write_file_atomically(options_.attempt_folder / "status.json", protocol::dump(report));
  last_status_ = steady_clock::now();
}

// MPI may only be called from the trainer's thread; a rank that vanishes ends the job within a second.
void Reporter::end_at_once(const std::string& reason, ExitCode code) {
  spdlog::warn("{}", reason);
  write_error_record(options_.attempt_folder,
                     {.rank = 0, .reason = reason, .exit_code = static_cast<int>(code)});
  spdlog::shutdown();
  ::_exit(static_cast<int>(code));
}

}  // namespace cosub::train
