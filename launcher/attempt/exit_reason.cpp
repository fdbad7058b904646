#include "launcher/attempt/exit_reason.h"

#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <sstream>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/exit_code.h"
#include "common/text.h"

namespace cosub::launcher {
namespace {

constexpr int kLostHost = 205;  // Open MPI 4.1: the connection to a remote daemon broke
constexpr int kInterrupted = static_cast<int>(ExitCode::kInterrupted);

std::string signal_text(int signal) {
  const char* name = sigabbrev_np(signal);
  return "signal " + std::to_string(signal) + (name == nullptr ? "" : std::string(" (SIG") + name + ")");
}

/// What mpirun itself said: lines of ranks carry a tag like [1,0]<stdout>, rules of dashes mean nothing.
std::string words_of_mpirun(const std::string& log) {
  std::istringstream lines(log);
  std::string words;
  for (std::string line; std::getline(lines, line);) {
    const bool tagged = line.starts_with("[") && line.find(">:") != std::string::npos;
    const bool empty = line.find_first_not_of("- \t\r") == std::string::npos;
    if (!tagged && !empty && !line.starts_with("mpirun: Forwarding signal")) words += line + "\n";
  }
  return words;
}

std::optional<std::smatch> search(const std::string& text, const char* pattern) {
  std::smatch match;
  if (!std::regex_search(text, match, std::regex(pattern))) return std::nullopt;
  return match;
}

struct SignalDeath {
  int rank = -1;
  std::string host;
  int signal = 0;
};

std::optional<SignalDeath> signal_death(const std::string& words) {
  const auto match = search(words, R"(process rank (\d+) with PID \d+ on node (\S+) exited on signal (\d+))");
  if (!match) return std::nullopt;
  return SignalDeath{std::stoi((*match)[1]), (*match)[2], std::stoi((*match)[3])};
}

ExitRecord from_outside(int exit_code, std::string reason, int failed_rank = -1) {
  ExitRecord record;
  record.exit_code = exit_code;
  record.reason = std::move(reason);
  record.failed_rank = failed_rank;
  record.from_outside = true;
  return record;
}

ExitRecord own_error(int exit_code, std::string reason, int failed_rank = -1) {
  ExitRecord record = from_outside(exit_code, std::move(reason), failed_rank);
  record.from_outside = false;
  return record;
}

ExitRecord by_rank_error(const RankError& error) {
  ExitRecord record = own_error(error.exit_code == 0 ? 1 : error.exit_code, error.reason, error.rank);
  record.step = error.step;
  return record;
}

/// The stop itself, where it explains the end.
std::optional<ExitRecord> by_stop(const JobEnd& end, const std::optional<SignalDeath>& death) {
  const int signal_of_mpirun = WIFSIGNALED(end.wait_status) ? WTERMSIG(end.wait_status) : 0;
  const std::string late = "did not stop within " +
                           format_duration(static_cast<double>(end.grace.count()) / 1000) +
                           " of the request and was ";
  switch (end.stop) {
    case StopStage::kNone:
      return std::nullopt;
    case StopStage::kAsked:
      // Whoever dies of SIGUSR1 had not yet got as far as handling it, so there was nothing to save.
      if (death && death->signal == SIGUSR1) {
        return from_outside(kInterrupted, "stopped on request before the first step");
      }
      // mpirun dies of it in its first and last moments.
      if (signal_of_mpirun == SIGUSR1 && !end.errors.empty()) return by_rank_error(end.errors.front());
      if (signal_of_mpirun == SIGUSR1) return from_outside(kInterrupted, "stopped on request");
      return std::nullopt;
    case StopStage::kTerminated:
      return from_outside(128 + SIGTERM, late + "terminated");
    case StopStage::kKilled:
      return from_outside(128 + SIGKILL, late + "killed");
    case StopStage::kAtOnce:
      return from_outside(128 + SIGKILL, "ended at once on request, without a checkpoint");
  }
  return std::nullopt;
}

/// mpirun's words about anything but a death by signal; else its exit code and the first thing it said.
ExitRecord by_words(const std::string& words, int exit_code) {
  const int failure = static_cast<int>(ExitCode::kFailure);
  if (exit_code == kLostHost) {
    const auto daemon = search(words, R"(Remote daemon: \[\[\d+,\d+\],\d+\] on node (\S+))");
    const std::string host = daemon ? "host " + (*daemon)[1].str() : "a host";
    return from_outside(exit_code, "lost the connection to " + host + " (host down or network cut)");
  }
  if (const auto launch = search(words, R"(Executable: (.*)\nNode: (\S+))")) {
    return own_error(failure, "the worker program " + (*launch)[1].str() + " cannot be run on " +
                                  (*launch)[2].str() + ": install cosub there under the same path");
  }
  if (const auto abort = search(words, R"(MPI_ABORT was invoked on rank (\d+))")) {
    return own_error(exit_code,
                     "rank " + (*abort)[1].str() + " called MPI_Abort with code " + std::to_string(exit_code),
                     std::stoi((*abort)[1]));
  }
  if (const auto improper = search(words, R"(process rank (\d+) with PID \d+ on\s+node (\S+) exiting)")) {
    return own_error(
        exit_code,
        "rank " + (*improper)[1].str() + " on " + (*improper)[2].str() + " left without MPI_Finalize",
        std::stoi((*improper)[1]));
  }
  if (const auto exited = search(words, R"(Process name: \[\[\d+,\d+\],(\d+)\]\s+Exit code:\s+(\d+))")) {
    const std::string rank = (*exited)[1];
    return own_error(
        exit_code, "rank " + rank + " exited with code " + (*exited)[2].str() + ": see rank-" + rank + ".log",
        std::stoi(rank));
  }
  const std::string first = words.substr(0, words.find('\n'));
  return own_error(exit_code, "mpirun exited with code " + std::to_string(exit_code) +
                                  (first.empty() ? "" : ": " + first));
}

}  // namespace

ExitRecord exit_record(const JobEnd& end) {
  if (!end.started) return from_outside(kInterrupted, "stopped on request before it started");
  const std::string words = words_of_mpirun(end.log);
  const std::optional<SignalDeath> death = signal_death(words);
  const int exit_code = WIFEXITED(end.wait_status) ? WEXITSTATUS(end.wait_status) : -1;

  if (exit_code == 0) return own_error(0, "complete");
  if (exit_code == kInterrupted && end.errors.empty()) {
    return from_outside(kInterrupted, end.stop == StopStage::kNone ? "stopped after a checkpoint"
                                                                   : "stopped on request after a checkpoint");
  }
  if (auto record = by_stop(end, death)) return *record;
  if (WIFSIGNALED(end.wait_status)) {
    const int signal = WTERMSIG(end.wait_status);
    return from_outside(128 + signal, "mpirun killed by " + signal_text(signal));
  }
  if (death) {
    const auto own = std::find_if(end.errors.begin(), end.errors.end(),
                                  [&](const RankError& error) { return error.rank == death->rank; });
    if (own != end.errors.end()) return by_rank_error(*own);
    return from_outside(128 + death->signal,
                        "rank " + std::to_string(death->rank) + " on " + death->host + " killed by " +
                            signal_text(death->signal),
                        death->rank);
  }
  if (exit_code == kLostHost || end.errors.empty()) return by_words(words, exit_code);
  return by_rank_error(end.errors.front());
}

std::vector<RankError> read_rank_errors(const std::filesystem::path& attempt_folder) {
  namespace fs = std::filesystem;
  std::vector<std::pair<fs::file_time_type, RankError>> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(attempt_folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("error-rank-") || !name.ends_with(".json")) continue;
    try {
      const auto json = nlohmann::json::parse(read_file(entry.path()));
      RankError error;
      error.rank = json.at("rank").get<int>();
      error.reason = json.at("reason").get<std::string>();
      error.step = json.at("step").get<std::int64_t>();
      error.exit_code = json.at("exit_code").get<int>();
      error.host = json.at("host").get<std::string>();
      found.emplace_back(fs::last_write_time(entry.path()), std::move(error));
    } catch (const std::exception& damaged) {
      fprintf(stderr, "cosub-attempt: %s: damaged, left out: %s\n", entry.path().c_str(), damaged.what());
    }
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.second.rank) < std::pair(b.first, b.second.rank);
  });
  std::vector<RankError> errors;
  for (auto& [time, error] : found) errors.push_back(std::move(error));
  return errors;
}

}  // namespace cosub::launcher
