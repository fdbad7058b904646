// Why a job ended, worked out from what it left behind: mpirun's exit status, mpirun's own words in
// wrapper.log, the error files of ranks, and whether somebody had asked it to stop. Pure functions, but for
// read_rank_errors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "launcher/backends/backend.h"

namespace cosub::launcher {

/// How far a stop went before the job ended.
enum class StopStage {
  kNone,
  kAsked,       // SIGUSR1: checkpoint and end
  kTerminated,  // SIGTERM after the grace
  kKilled,      // SIGKILL after that
  kAtOnce,      // SIGKILL on request, no checkpoint
};

/// attempts/N/error-rank-K.json, written by a rank that failed by itself.
struct RankError {
  int rank = -1;
  std::string reason;
  std::int64_t step = -1;
  int exit_code = 1;
  std::string host;
};

struct JobEnd {
  bool started = true;  // false: the stop came before mpirun was started
  int wait_status = 0;  // mpirun's, as waitpid(2) gives it
  StopStage stop = StopStage::kNone;
  std::chrono::milliseconds grace{0};
  std::string log;                // wrapper.log, its end
  std::vector<RankError> errors;  // earliest first
};

/// Fills everything of the record but the seconds. In this order:
/// mpirun killed by a signal; a rank killed by a signal of which mpirun says it was the first to die (unless
/// that rank left an error file: errors of others then only follow from its death); the earliest error file;
/// mpirun's words; its exit code. The reason of an error file is taken as it is, without rank or host, so
/// that it can be compared between attempts; failed_rank has the rank.
ExitRecord exit_record(const JobEnd& end);

/// The error files in an attempt's folder, earliest modification first. Damaged ones are skipped and named on
/// stderr.
std::vector<RankError> read_rank_errors(const std::filesystem::path& attempt_folder);

}  // namespace cosub::launcher
