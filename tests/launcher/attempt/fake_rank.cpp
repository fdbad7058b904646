// A rank without MPI for the wrapper's tests: does what its arguments say, one after the other.
//   ready=FOLDER     creates FOLDER/ready-RANK
//   exit=CODE@RANK   exits         (without @RANK: every rank)
//   die=SIGNAL@RANK  dies of the signal
//   error=FOLDER@RANK  writes FOLDER/error-rank-RANK.json (code 78, step 41)
//   wait             until SIGUSR1 or SIGTERM, then exits 75; wait=N: until the Nth
//   hang             for ever
// Like a worker it dies with its mpirun, and has its signals blocked from the start.
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "common/atomic_file.h"
#include "common/process.h"

namespace {

const char* rank_text() {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  return rank == nullptr ? "0" : rank;
}

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGTERM);
  return set;
}

void wait_for_stop(int num_requests) {
  const sigset_t set = stop_signals();
  for (int signal = 0; num_requests > 0; --num_requests) sigwait(&set, &signal);
  std::_Exit(75);
}

void perform(const std::string& action, const std::string& value) {
  const std::string rank = rank_text();
  if (action == "ready") cosub::write_file_atomically(value + "/ready-" + rank, std::to_string(getpid()));
  if (action == "exit") std::_Exit(std::stoi(value));
  if (action == "die") raise(std::stoi(value));
  if (action == "error") {
    cosub::write_file_atomically(value + "/error-rank-" + rank + ".json",
                                 "{\"rank\":" + rank +
                                     ",\"reason\":\"no image in train\",\"step\":41,"
                                     "\"exit_code\":78,\"host\":\"h\"}");
  }
  if (action == "wait") wait_for_stop(value.empty() ? 1 : std::stoi(value));
  while (action == "hang") pause();
}

}  // namespace

int main(int argc, char** argv) {
  if (!cosub::die_with_parent()) return 1;
  const sigset_t set = stop_signals();
  sigprocmask(SIG_BLOCK, &set, nullptr);
  for (int i = 1; i < argc; ++i) {
    std::string action = argv[i];
    const std::size_t at = action.rfind('@');
    if (at != std::string::npos) {
      if (action.substr(at + 1) != rank_text()) continue;
      action.resize(at);
    }
    const std::size_t equals = action.find('=');
    perform(action.substr(0, equals), equals == std::string::npos ? "" : action.substr(equals + 1));
  }
  return 0;
}
