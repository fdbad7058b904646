// cosub doctor: is everything on this machine that a run needs? Each check tries the thing itself.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/process.h"
#include "common/text.h"
#include "launcher/backends/backend.h"
#include "launcher/commands/command.h"
#include "launcher/commands/program_output.h"

namespace cosub::commands {

namespace {

namespace fs = std::filesystem;

enum class Verdict { kGood, kNote, kBad };

struct Finding {
  std::string what;
  Verdict verdict = Verdict::kGood;
  std::string detail;
  std::string remedy;
};

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

Finding check_mpirun() {
  if (const auto why = launcher::make_backend("mpirun")->unavailable())
    return {"mpirun", Verdict::kBad, *why, ""};
  const ProgramOutput version = run_program({"mpirun", "--version"}, std::chrono::seconds(10));
  const ProgramOutput two = run_program(
      {"mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", "hostname"}, std::chrono::seconds(30));
  if (two.code != 0) {
    return {"mpirun", Verdict::kBad,
            fmt::format("two local ranks do not start: {}", first_line(two.output + two.errors)),
            "run 'mpirun -n 2 hostname' and mend what it says"};
  }
  return {"mpirun", Verdict::kGood, first_line(version.output) + ", two local ranks start", ""};
}

Finding check_worker() {
  const std::string program = (executable_folder() / "cosub-worker").string();
  const ProgramOutput outcome = run_program({program, "--version"}, std::chrono::seconds(60));
  if (outcome.code != 0) {
    return {"cosub-worker", Verdict::kBad, first_line(outcome.errors + outcome.output),
            "build or install the worker; 'ldd cosub-worker' shows a missing library"};
  }
  return {"cosub-worker", Verdict::kGood, first_line(outcome.output), ""};
}

Finding check_sibling(const std::string& name) {
  const fs::path program = executable_folder() / name;
  if (access(program.c_str(), X_OK) == 0) return {name, Verdict::kGood, program.string(), ""};
  return {name, Verdict::kBad, program.string() + " is not there",
          "build the target " + name + " or install again"};
}

Finding check_runs_folder(const fs::path& runs) {
  std::error_code error;
  fs::create_directories(runs, error);
  const fs::path probe = runs / fmt::format(".cosub-doctor-{}", new_uuid());
  try {
    write_file_atomically(probe, "probe");
    fs::remove(probe);
  } catch (const IoError& failure) {
    return {"runs folder", Verdict::kBad, failure.what(),
            "choose another with --runs and 'runs:' in the pipeline"};
  }
  const double free = static_cast<double>(free_bytes(runs));
  constexpr double kComfortableBytes = 2e9;
  return {"runs folder", free < kComfortableBytes ? Verdict::kNote : Verdict::kGood,
          fmt::format("{}, {} free", fs::absolute(runs).string(), format_bytes(free)),
          free < kComfortableBytes ? "checkpoints may not fit" : ""};
}

Finding check_shared_memory() {
  const double free = static_cast<double>(free_bytes("/dev/shm"));
  constexpr double kWanted = 64e6;  // Open MPI's shared-memory transport
  if (free < kWanted) {
    return {"/dev/shm", Verdict::kNote, fmt::format("only {} free", format_bytes(free)),
            "start the container with --shm-size=1g; MPI is slow or fails without"};
  }
  return {"/dev/shm", Verdict::kGood, fmt::format("{} free", format_bytes(free)), ""};
}

Finding check_descriptors() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  constexpr rlim_t kWanted = 1024;
  return {"open files", limit.rlim_cur < kWanted ? Verdict::kNote : Verdict::kGood,
          fmt::format("limit {}", limit.rlim_cur), limit.rlim_cur < kWanted ? "ulimit -n 1024 or more" : ""};
}

Finding check_dataset() {
  const fs::path file = "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz";
  if (fs::exists(file)) return {"Fashion-MNIST", Verdict::kGood, file.parent_path().string(), ""};
  return {"Fashion-MNIST", Verdict::kNote, "not installed: configs/quickstart.yaml needs it",
          "apt-get install dataset-fashion-mnist"};
}

Finding check_gpu() {
  if (!fs::exists("/dev/nvidiactl")) return {"GPU", Verdict::kNote, "none: runs go on CPU", ""};
  const ProgramOutput outcome = run_program({"nvidia-smi", "-L"}, std::chrono::seconds(20));
  if (outcome.code != 0)
    return {"GPU", Verdict::kBad, "/dev/nvidiactl is there, nvidia-smi fails", "check the driver"};
  return {"GPU", Verdict::kGood, first_line(outcome.output), ""};
}

int doctor(const std::string& runs, bool json) {
  const std::vector<Finding> findings = {check_sibling("cosub-coordinator"),
                                         check_sibling("cosub-attempt"),
                                         check_worker(),
                                         check_mpirun(),
                                         check_runs_folder(runs),
                                         check_shared_memory(),
                                         check_descriptors(),
                                         check_dataset(),
                                         check_gpu()};
  bool bad = false;
  nlohmann::json list = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows = {{"", "check", "found", "remedy"}};
  for (const Finding& finding : findings) {
    const bool is_bad = finding.verdict == Verdict::kBad;
    bad = bad || is_bad;
    const std::string word = is_bad ? "bad" : finding.verdict == Verdict::kNote ? "note" : "good";
    list.push_back(
        {{"check", finding.what}, {"verdict", word}, {"found", finding.detail}, {"remedy", finding.remedy}});
    rows.push_back({is_bad                              ? "✗"
                    : finding.verdict == Verdict::kNote ? "!"
                                                        : "✓",
                    finding.what, finding.detail, finding.remedy});
  }
  if (json) {
    fmt::print("{}\n", list.dump(2));
  } else {
    fmt::print("{}{}\n", table(rows), bad ? "something that a run needs is missing" : "ready to run");
  }
  return static_cast<int>(bad ? ExitCode::kFailure : ExitCode::kDone);
}

}  // namespace

void add_doctor(CLI::App& app, Chosen& chosen) {
  auto runs = std::make_shared<std::string>("runs");
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("doctor", "Is everything here that a run needs?");
  command->footer(
      "Tries each thing (two MPI ranks, the worker, the runs folder) and names the remedy. Exit code 1 when\n"
      "something that a run needs is missing.");
  command->add_option("--runs", *runs, "Folder of the runs")->capture_default_str();
  command->add_flag("--json", *json, "As JSON");
  command->callback([runs, json, &chosen] { chosen.run = [runs, json] { return doctor(*runs, *json); }; });
}

}  // namespace cosub::commands
