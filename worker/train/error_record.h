// attempts/N/error-rank-K.json: why a rank ended by itself. The wrapper takes the earliest as the job's
// reason.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace cosub::train {

struct ErrorRecord {
  std::int64_t rank = 0;
  std::string reason;
  std::int64_t step = -1;  // optimizer steps done; -1: before the first
  int exit_code = 1;
};

/// Atomic; adds the host's name. A folder of "" (standalone) writes nothing. Never throws: this is said while
/// another error is being handled, so what goes wrong here is only logged.
void write_error_record(const std::filesystem::path& attempt_folder, const ErrorRecord& record) noexcept;

/// The step that error records of this process name from now on.
void set_current_step(std::int64_t step);
std::int64_t current_step();

}  // namespace cosub::train
