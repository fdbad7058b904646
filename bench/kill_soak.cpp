// kill_soak: runs a pipeline under a long-lived coordinator and kills -9 its processes at random moments: a
// rank, mpirun, the coordinator, or all of them at once. The pipeline has to end by itself (the coordinator
// is started again where it was killed), with the exported file of an undisturbed run, and nothing left
// running. Seeded.
//   build/release/bench/kill_soak --kills 40 --seed 1
#include <fmt/format.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "common/error.h"
#include "common/random.h"
#include "common/text.h"
#include "launcher/commands/connection.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/whole_system.h"

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using cosub::KeyedRandom;
using cosub::commands::Connection;
using cosub::testing::Background;
using cosub::testing::processes_named;
using std::chrono::steady_clock;

struct Options {
  int kills = 40;
  std::uint64_t seed = 1;
  std::int64_t ranks = 2;
  double epochs = 12;
  int limit_s = 1200;
  bool verbose = false;
};

enum class Victim { kRank, kMpirun, kCoordinator, kEverything };
constexpr const char* kVictimNames[] = {"rank", "mpirun", "coordinator", "everything"};

class Soak {
 public:
  explicit Soak(const Options& options)
      : options_(options), random_(options.seed, cosub::Purpose::kTest, 0, 0), runs_(folder_ / "runs") {}

  int run() {
    const std::string expected = undisturbed();
    start_coordinator();
    deadline_ = steady_clock::now() + std::chrono::seconds(options_.limit_s);
    bool good = true;
    for (int kills = 0, round = 1; kills < options_.kills; ++round) {
      name_ = fmt::format("killed_{}", round);
      submit();
      // A pipeline that ends before its last kill is followed by another one.
      while (kills < options_.kills && kill_once(kills)) ++kills;
      wait_until_ended();
      good = judge(expected) && good;
    }
    return nothing_left() && good ? 0 : 1;
  }

 private:
  std::string undisturbed() {
    write("calm");
    const auto start = steady_clock::now();
    const auto result = cosub::testing::run_program(
        {cosub::testing::program("cosub").string(), "run", (folder_ / "calm.yaml").string()});
    if (result.exit_code != 0) throw std::runtime_error("the undisturbed run failed:\n" + result.output);
    const double seconds = std::chrono::duration<double>(steady_clock::now() - start).count();
    fmt::print("undisturbed run: {:.1f} s\n", seconds);
    return cosub::testing::exported_sha256(runs_ / "calm");
  }

  void write(const std::string& name) {
    cosub::testing::ToyPipeline pipeline;
    pipeline.name = name;
    pipeline.ranks = options_.ranks;
    pipeline.pretrain_epochs = options_.epochs;
    pipeline.finetune_epochs = options_.epochs / 2;
    cosub::testing::write_toy_pipeline(folder_.path(), pipeline);
  }

  void start_coordinator() {
    coordinator_ = std::make_unique<Background>(
        std::vector<std::string>{cosub::testing::program("cosub-coordinator").string(), "--state",
                                 (folder_ / "state").string()},
        folder_ / "coordinator.log");
    const auto deadline = steady_clock::now() + 30s;
    while (steady_clock::now() < deadline) {
      const auto endpoint = cosub::commands::read_endpoint(folder_ / "state");
      if (endpoint && endpoint->process == coordinator_->process()) {
        connection_ = std::make_unique<Connection>(folder_ / "state");
        return;
      }
      if (coordinator_->wait(10ms)) break;
    }
    throw std::runtime_error("the coordinator did not start:\n" + coordinator_->output());
  }

  void submit() {
    write(name_);
    const auto result = cosub::testing::run_program({cosub::testing::program("cosub").string(), "submit",
                                                     (folder_ / (name_ + ".yaml")).string(), "--state",
                                                     (folder_ / "state").string()});
    if (result.exit_code != 0) throw std::runtime_error(result.output);
  }

  std::optional<cosub::protocol::PipelineView> view() {
    if (!connection_) return std::nullopt;
    return connection_->try_pipeline(name_);
  }

  bool ended() {
    if (coordinator_->wait(0ms)) start_coordinator();
    const auto now = view();
    return now && now->state != "running";
  }

  std::string state_text() {
    const auto now = view();
    return now ? cosub::protocol::dump(*now) : "no answer from the coordinator";
  }

  /// The stage that runs now, "" between two.
  std::string current_stage() {
    const auto now = view();
    if (!now) return "";
    for (const auto& stage : now->stages) {
      if (stage.state == "running" || stage.state == "backoff") return stage.name;
    }
    return "";
  }

  void wait_until_ended() {
    while (!ended()) {
      if (steady_clock::now() > deadline_) {
        throw std::runtime_error("the pipeline did not end in time:\n" + state_text());
      }
      std::this_thread::sleep_for(50ms);
    }
  }

  /// Waits until the pipeline has come to this stage, or past it; false when it has ended.
  bool wait_for_stage(const std::string& wanted) {
    static const std::vector<std::string> kOrder = {"pretrain", "finetune", "evaluate", "export"};
    const auto index = [](const std::string& name) {
      return std::find(kOrder.begin(), kOrder.end(), name) - kOrder.begin();
    };
    while (!ended() && steady_clock::now() < deadline_) {
      const std::string current = current_stage();
      if (!current.empty() && index(current) >= index(wanted)) return true;
      std::this_thread::sleep_for(10ms);
    }
    return false;
  }

  /// One kill at a random moment; false when the pipeline ended first.
  bool kill_once(int index) {
    // Half of the kills fall into pretraining, the last quarter into the two short stages.
    const double share = static_cast<double>(index) / options_.kills;
    const std::string wanted = share < 0.5     ? "pretrain"
                               : share < 0.75  ? "finetune"
                               : share < 0.875 ? "evaluate"
                                               : "export";
    if (!wait_for_stage(wanted)) return false;
    const double longest_s = share < 0.75 ? 2.5 : 1.0;
    std::this_thread::sleep_for(std::chrono::duration<double>(random_.uniform() * longest_s));
    if (ended()) return false;
    const std::string stage = current_stage();
    const auto victim = static_cast<Victim>(random_.uniform_int(4));
    const std::size_t killed = kill(victim);
    if (killed == 0) return kill_once(index);  // between two attempts there was nobody of that kind
    ++kills_by_stage_[stage.empty() ? "between stages" : stage];
    ++kills_by_victim_[kVictimNames[static_cast<int>(victim)]];
    if (options_.verbose) {
      fmt::print("kill {}: {} in {} ({} processes)\n", index + 1, kVictimNames[static_cast<int>(victim)],
                 stage, killed);
      std::fflush(stdout);
    }
    if (victim == Victim::kCoordinator || victim == Victim::kEverything) {
      coordinator_->wait(10s);
      start_coordinator();
    }
    return true;
  }

  std::size_t kill(Victim victim) {
    std::vector<cosub::ProcessId> victims;
    const auto add = [&](const char* name) {
      for (const auto& id : processes_named(name, runs_.string())) victims.push_back(id);
    };
    const bool everything = victim == Victim::kEverything;
    if (victim == Victim::kRank || everything) add("cosub-worker");
    if (victim == Victim::kRank && victims.size() > 1) {
      victims = {victims[random_.uniform_int(victims.size())]};
    }
    if (victim == Victim::kMpirun || everything) add("mpirun");
    if (everything) add("cosub-attempt");
    if (victim == Victim::kCoordinator || everything) victims.push_back(coordinator_->process());
    for (const auto& id : victims) cosub::send_signal(id, SIGKILL);
    return victims.size();
  }

  bool judge(const std::string& expected) {
    const auto last = view();
    std::size_t attempts = 0;
    for (const auto& stage : last->stages) attempts += stage.attempts.size();
    const bool same = !expected.empty() && cosub::testing::exported_sha256(runs_ / name_) == expected;
    fmt::print("{}: {} after {} attempts, exported file equal to the undisturbed run's: {}\n", name_,
               last->state, attempts, same ? "yes" : "NO");
    if (last->state != "succeeded") fmt::print("{}\n", cosub::protocol::dump(*last));
    return same && last->state == "succeeded";
  }

  bool nothing_left() {
    std::vector<std::vector<std::string>> rows = {{"killed", "times"}};
    for (const auto& [name, count] : kills_by_victim_) rows.push_back({name, std::to_string(count)});
    rows.push_back({"in stage", "times"});
    for (const auto& [name, count] : kills_by_stage_) rows.push_back({name, std::to_string(count)});
    fmt::print("{}", cosub::table(rows));
    coordinator_->signal(SIGTERM);
    const bool coordinator_gone = coordinator_->wait(10s).has_value();
    std::size_t left = 0;
    for (const char* name : {"cosub-worker", "mpirun", "cosub-attempt", "cosub-coordinator"}) {
      left += processes_named(name, folder_.path().string()).size();
    }
    fmt::print("processes left: {}\n", left);
    return coordinator_gone && left == 0;
  }

  Options options_;
  cosub::testing::TemporaryFolder folder_;
  KeyedRandom random_;
  fs::path runs_;
  std::string name_;
  steady_clock::time_point deadline_;
  std::unique_ptr<Background> coordinator_;
  std::unique_ptr<Connection> connection_;
  std::map<std::string, int> kills_by_stage_, kills_by_victim_;
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Kills processes of a run at random moments and checks that the result is what it would have been"};
  app.add_option("--kills", options.kills, "How many kills")->capture_default_str();
  app.add_option("--seed", options.seed, "Of victims and moments")->capture_default_str();
  app.add_option("--ranks", options.ranks, "Ranks of the job")->capture_default_str();
  app.add_option("--epochs", options.epochs, "Of pretraining on the toy set")->capture_default_str();
  app.add_option("--limit", options.limit_s, "Seconds after which it is a failure")->capture_default_str();
  app.add_flag("--verbose", options.verbose, "A line per kill");
  CLI11_PARSE(app, argc, argv);
  try {
    return Soak(options).run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
