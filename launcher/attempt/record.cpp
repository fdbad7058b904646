#include "launcher/attempt/record.h"

#include <cstdio>
#include <fstream>
#include <thread>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/protocol.h"

namespace cosub::launcher {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr std::streamoff kLogEndBytes = 64 * 1024;

/// mpirun speaks last, so the end of its log is enough however much the ranks wrote before.
std::string end_of_log(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return "";
  file.seekg(0, std::ios::end);
  const std::streamoff size = file.tellg();
  file.seekg(std::max<std::streamoff>(0, size - kLogEndBytes));
  return {std::istreambuf_iterator<char>(file), {}};
}

std::int64_t last_reported_step(const fs::path& attempt_folder) {
  const fs::path path = attempt_folder / "status.json";
  if (!fs::exists(path)) return -1;
  try {
    return protocol::parse<protocol::Report>(read_file(path)).progress.step;
  } catch (const Error& error) {
    fprintf(stderr, "cosub-attempt: last step not known: %s: %s\n", path.c_str(), error.what());
    return -1;
  }
}

}  // namespace

ExitRecord conclude(const fs::path& attempt_folder, JobEnd end) {
  end.log = end_of_log(attempt_folder / "wrapper.log");
  end.errors = read_rank_errors(attempt_folder);
  ExitRecord record = exit_record(end);
  if (record.step < 0) record.step = last_reported_step(attempt_folder);
  return record;
}

bool record_exit(const fs::path& attempt_folder, const ExitRecord& record, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  for (auto pause = 50ms;; pause = std::min(pause * 2, 2000ms)) {
    try {
      write_exit(attempt_folder, record);
      return true;
    } catch (const IoError& error) {
      fprintf(stderr, "cosub-attempt: how the attempt ended cannot be recorded: %s\n", error.what());
    }
    if (std::chrono::steady_clock::now() + pause >= deadline) return false;
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace cosub::launcher
