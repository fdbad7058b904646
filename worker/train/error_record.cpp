#include "worker/train/error_record.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/process.h"

namespace cosub::train {
namespace {

std::atomic<std::int64_t> g_step{-1};

}  // namespace

void write_error_record(const std::filesystem::path& attempt_folder, const ErrorRecord& record) noexcept {
  if (attempt_folder.empty()) return;
  try {
    nlohmann::json json = {{"rank", record.rank},
                           {"reason", record.reason},
                           {"step", record.step >= 0 ? record.step : current_step()},
                           {"exit_code", record.exit_code},
                           {"host", host_name()}};
    write_file_atomically(attempt_folder / fmt::format("error-rank-{}.json", record.rank),
                          json.dump(2) + "\n");
  } catch (const std::exception& error) {
    spdlog::error("the reason could not be recorded: {}", error.what());
  }
}

void set_current_step(std::int64_t step) {
  g_step.store(step);
}
std::int64_t current_step() {
  return g_step.load();
}

}  // namespace cosub::train
