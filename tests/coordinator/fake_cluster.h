// Jobs without processes, for the supervisor's tests: a backend whose wrappers claim, run and end when the
// test lets time pass. It outlives every supervisor, as real jobs do, and notes each breach of what must
// never happen.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/run_folder.h"
#include "launcher/backends/backend.h"

namespace cosub::testing {

struct FakeJob {
  launcher::LaunchSpec spec;
  std::string stage;  // its name
  enum State { kForked, kRunning, kEnded } state = kForked;
  bool asked_to_stop = false;
  int age = 0;  // passes of time since it claimed
};

/// How a job behaves: asked once each time time passes.
struct Fate {
  enum Kind { kGoesOn, kCompletes, kExits, kVanishes } kind = kGoesOn;
  launcher::ExitRecord record = {};
  bool leaves_result = true;  // kCompletes
};

class FakeCluster : public launcher::Backend {
 public:
  /// What becomes of a running job. By default it completes at age 2, and exits 75 once asked to stop.
  std::function<Fate(const FakeJob&)> fate = [](const FakeJob& job) {
    return Fate{job.age >= 2 ? Fate::kCompletes : Fate::kGoesOn};
  };
  /// false: a started wrapper is invisible until time passes, as between fork and exec.
  bool claims_at_once = true;
  std::string not_available;
  std::string start_fails_with;

  void pass_time();

  std::vector<FakeJob> jobs;
  std::vector<std::string> breaches;
  int starts = 0;

  FakeJob* running(const std::string& stage);

  std::vector<std::string> command(const launcher::LaunchSpec& spec) const override;
  std::optional<std::string> unavailable() const override;
  ProcessId start(const launcher::LaunchSpec& spec) override;
  launcher::Liveness probe(const std::filesystem::path& attempt_folder,
                           const std::string& uuid) const override;
  bool stop(const std::filesystem::path& attempt_folder, bool now) override;
  bool kill_leftovers(const std::string& uuid) override;

 private:
  void claim(FakeJob& job);
  void finish(FakeJob& job, const Fate& fate);

  std::set<std::filesystem::path> attempts_started_;
};

}  // namespace cosub::testing
