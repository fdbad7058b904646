#include "tests/coordinator/fake_cluster.h"

#include <unistd.h>

#include <fstream>

#include "common/error.h"

namespace cosub::testing {

using launcher::Liveness;

std::vector<std::string> FakeCluster::command(const launcher::LaunchSpec& spec) const {
  return spec.worker_argv;
}

std::optional<std::string> FakeCluster::unavailable() const {
  if (not_available.empty()) return std::nullopt;
  return not_available;
}

ProcessId FakeCluster::start(const launcher::LaunchSpec& spec) {
  launcher::write_launch(spec);
  if (!start_fails_with.empty()) throw IoError(start_fails_with);
  ++starts;
  FakeJob job;
  job.spec = spec;
  job.stage = spec.attempt_folder.parent_path().parent_path().filename();
  if (!attempts_started_.insert(spec.attempt_folder).second)
    breaches.push_back("attempt number used twice: " + spec.attempt_folder.string());
  if (claims_at_once) claim(job);
  jobs.push_back(job);
  // A process that lives, for the supervisor that started it: only its successor has nothing to go by.
  return {getpid(), start_time_of(getpid()).value_or(0)};
}

void FakeCluster::claim(FakeJob& job) {
  launcher::Claim claim;
  claim.owner = "wrapper";
  if (!launcher::take_claim(job.spec.attempt_folder, claim)) {
    job.state = FakeJob::kEnded;
    return;
  }
  if (running(job.stage) != nullptr) breaches.push_back("two live attempts of stage " + job.stage);
  if (read_fence(StageFolder{job.spec.attempt_folder.parent_path().parent_path()}) != job.spec.attempt)
    breaches.push_back("the fence does not name the attempt that starts: " +
                       job.spec.attempt_folder.string());
  job.state = FakeJob::kRunning;
}

FakeJob* FakeCluster::running(const std::string& stage) {
  for (FakeJob& job : jobs)
    if (job.stage == stage && job.state == FakeJob::kRunning) return &job;
  return nullptr;
}

void FakeCluster::pass_time() {
  for (FakeJob& job : jobs) {
    if (job.state == FakeJob::kForked) claim(job);
    if (job.state != FakeJob::kRunning) continue;
    ++job.age;
    Fate next = fate(job);
    if (next.kind == Fate::kGoesOn && job.asked_to_stop) {
      next.kind = Fate::kExits;
      next.record.exit_code = 75;
      next.record.reason = "interrupted";
    }
    if (next.kind != Fate::kGoesOn) finish(job, next);
  }
}

void FakeCluster::finish(FakeJob& job, const Fate& next) {
  job.state = FakeJob::kEnded;
  if (next.kind == Fate::kVanishes) return;
  if (next.kind == Fate::kCompletes && next.leaves_result)
    std::ofstream(StageFolder{job.spec.attempt_folder.parent_path().parent_path()}.result())
        << R"({"step": 10, "metrics": {"top1": 0.9}})";
  launcher::write_exit(job.spec.attempt_folder, next.record);
}

Liveness FakeCluster::probe(const std::filesystem::path& attempt_folder, const std::string& uuid) const {
  for (const FakeJob& job : jobs)
    if (job.spec.attempt_folder == attempt_folder && job.spec.uuid == uuid && job.state == FakeJob::kRunning)
      return Liveness::kRunning;
  return Liveness::kGone;
}

bool FakeCluster::stop(const std::filesystem::path& attempt_folder, bool now) {
  for (FakeJob& job : jobs) {
    if (job.spec.attempt_folder != attempt_folder || job.state != FakeJob::kRunning) continue;
    job.asked_to_stop = true;
    if (now) finish(job, {Fate::kExits, {137, "killed on request", -1, true}});
    return true;
  }
  return false;
}

bool FakeCluster::kill_leftovers(const std::string& uuid) {
  for (FakeJob& job : jobs)
    if (job.spec.uuid == uuid && job.state == FakeJob::kRunning) job.state = FakeJob::kEnded;
  return true;
}

}  // namespace cosub::testing
