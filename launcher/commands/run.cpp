// cosub run: a private coordinator, one pipeline, its progress, and a clean end whatever the person at the
// keyboard does.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "common/config/pipeline.h"
#include "common/error.h"
#include "common/text.h"
#include "launcher/backends/backend.h"
#include "launcher/commands/command.h"
#include "launcher/commands/preflight.h"
#include "launcher/commands/private_coordinator.h"
#include "launcher/commands/progress.h"

namespace cosub::commands {

namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(200);
constexpr auto kBlockedLimit = std::chrono::seconds(60);

struct RunOptions {
  std::string file;
  std::vector<std::string> overrides;
  bool dry_run = false;
  bool json = false;
};

volatile std::sig_atomic_t interrupts = 0;
void count_interrupt(int) {
  interrupts = interrupts + 1;
}

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = count_interrupt;
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

/// A comment on as many lines as the text has, so that what is printed is a pipeline file.
void print_comment(const std::string& text) {
  std::string comment = "# ";
  for (const char letter : text) comment += letter == '\n' ? "\n# " : std::string(1, letter);
  fmt::print("{}\n", comment);
}

int print_dry_run(const config::PipelineConfig& pipeline, const RunOptions& options) {
  fmt::print("{}", config::to_yaml(pipeline));
  fmt::print("\n# What would run:\n");
  for (const auto& [stage, command] : stage_commands(pipeline)) {
    print_comment(stage + ":");
    print_comment("  " + command);
  }
  std::fflush(stdout);
  require_ready(pipeline, options.file, options.overrides);
  return static_cast<int>(ExitCode::kDone);
}

int exit_code_of(const protocol::PipelineView& view) {
  if (view.state == "succeeded") return static_cast<int>(ExitCode::kDone);
  if (view.state == "stopped") return static_cast<int>(ExitCode::kInterrupted);
  for (const auto& stage : view.stages) {
    if (stage.state != "failed" || stage.attempts.empty()) continue;
    if (stage.attempts.back().exit_code == static_cast<int>(ExitCode::kBadInput))
      return static_cast<int>(ExitCode::kBadInput);
  }
  return static_cast<int>(ExitCode::kFailure);
}

bool has_ended(const protocol::PipelineView& view) {
  return view.state == "succeeded" || view.state == "failed" || view.state == "stopped";
}

/// Passes Ctrl-C on: the first asks for a checkpoint, the second ends at once.
class Interrupts {
 public:
  void pass_on(PrivateCoordinator& coordinator, const std::string& name, ProgressPrinter& printer) {
    const int now = interrupts;
    if (now <= passed_) return;
    const bool at_once = now > 1;
    printer.note(at_once ? "ending at once, without a checkpoint"
                         : "finishing this step and writing a checkpoint; Ctrl-C again ends at once");
    coordinator.connection().stop(name, at_once, at_once ? "interrupted twice" : "interrupted");
    passed_ = now;
  }

 private:
  int passed_ = 0;
};

/// Says once why a pipeline is blocked; when that lasts, gives up, so that nobody waits for ever unseen.
class Blockage {
 public:
  void look(const protocol::PipelineView& view, ProgressPrinter& printer) {
    const auto now = std::chrono::steady_clock::now();
    if (view.state != "blocked") {
      blocked_ = false;
      return;
    }
    if (!blocked_) {
      blocked_ = true;
      since_ = now;
      printer.note("cannot go on: " + view.reason);
    }
    if (now - since_ < kBlockedLimit) return;
    throw IoError(fmt::format("gave up after {} s: {}. Nothing is lost: the same command goes on",
                              kBlockedLimit.count(), view.reason));
  }

 private:
  bool blocked_ = false;
  std::chrono::steady_clock::time_point since_;
};

/// Says once that the run's disk is full: neither the job nor its wrapper can leave word of it there.
class DiskSpace {
 public:
  void look(const std::filesystem::path& folder, ProgressPrinter& printer) {
    std::error_code error;  // no answer is no reason to alarm anybody
    const std::uintmax_t free = std::filesystem::space(folder, error).available;
    const bool full = !error && free < kTooLittleBytes;
    if (full && !full_)
      printer.note(fmt::format("only {} are free in {}: free some space; nothing can be recorded there",
                               format_bytes(static_cast<double>(free)), folder.string()));
    full_ = full;
  }

 private:
  static constexpr std::uintmax_t kTooLittleBytes = 64 << 10;
  bool full_ = false;
};

protocol::PipelineView follow(PrivateCoordinator& coordinator, const std::string& name,
                              const std::filesystem::path& run_folder, ProgressPrinter& printer) {
  Interrupts pending;
  Blockage blockage;
  DiskSpace disk_space;
  protocol::PipelineView latest;
  for (;;) {
    try {
      pending.pass_on(coordinator, name, printer);
      if (const auto view = coordinator.connection().try_pipeline(name)) {
        printer.show(*view);
        if (has_ended(*view)) return *view;
        latest = *view;
      }
    } catch (const IoError&) {
      if (coordinator.alive()) throw;
    }
    disk_space.look(run_folder, printer);
    blockage.look(latest, printer);
    if (!coordinator.alive()) {
      printer.note("the coordinator died; starting it again (running jobs are kept)");
      coordinator.restart();
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

void print_end(const protocol::PipelineView& view, const RunOptions& options, bool terminal) {
  if (options.json) {
    fmt::print("{}\n", protocol::dump(view));
    return;
  }
  fmt::print("{}", final_report(view, terminal));
  if (view.state == "stopped")
    fmt::print("stopped; the same command goes on from here: cosub run {}\n", options.file);
  if (view.state == "failed") fmt::print(stderr, "error: {}\n", view.reason);
}

int run(const RunOptions& options) {
  const auto pipeline = config::load_pipeline(options.file, options.overrides);
  if (options.dry_run) return print_dry_run(pipeline, options);
  require_ready(pipeline, options.file, options.overrides);
  if (const auto why = launcher::make_backend(pipeline.cluster.backend)->unavailable())
    throw ConfigError(*why);

  catch_interrupts();
  const bool terminal = isatty(STDOUT_FILENO) && !options.json;
  const auto run_folder = std::filesystem::absolute(pipeline.runs / pipeline.name);
  PrivateCoordinator coordinator(private_state_folder(run_folder));
  protocol::PipelineView view = coordinator.connection().submit(config::to_yaml(pipeline));
  {
    ProgressPrinter printer(options.json ? Style::kSilent : terminal ? Style::kLive : Style::kPlain);
    printer.note(fmt::format("{}: {} stages on {} rank{} through {}; all of it is in {}", pipeline.name,
                             pipeline.stages.size(), pipeline.cluster.ranks,
                             pipeline.cluster.ranks == 1 ? "" : "s", pipeline.cluster.backend,
                             run_folder.string()));
    view = follow(coordinator, pipeline.name, run_folder, printer);
  }
  print_end(view, options, terminal);
  return exit_code_of(view);
}

}  // namespace

void add_run(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = app.add_subcommand("run", "Run a pipeline here, from its first stage to its last");
  command->footer(
      "Brings a coordinator of its own, shows progress, and ends with the pipeline. Ctrl-C once finishes the "
      "step,\n"
      "writes a checkpoint and stops; the same command goes on where it stopped. Ctrl-C twice ends at once.\n"
      "Before the first stage starts, the data, weights and models of all stages are checked (a line each, "
      "exit\n"
      "code 78). A changed pipeline goes on under its name as long as what changed concerns only stages that "
      "have\n"
      "neither a checkpoint nor a result.\n"
      "\n"
      "  cosub run configs/quickstart.yaml\n"
      "  cosub run configs/quickstart.yaml --set cluster.ranks=4 --set stages.pretrain.optimizer.lr=2e-3\n"
      "  cosub run configs/quickstart.yaml --set name=second_try --dry-run");
  command->add_option("pipeline", options->file, "Pipeline file (YAML); keys: docs/configuration.md")
      ->required();
  command
      ->add_option("--set", options->overrides,
                   "Override one key: a.b.c=value (stages by name); may be repeated")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  command->add_flag(
      "--dry-run", options->dry_run,
      "Print the resolved pipeline (the commands as comments, so that it can be run), check inputs "
      "and models, run nothing");
  command->add_flag("--json", options->json, "Print nothing but the final state, as JSON");
  command->callback([options, &chosen] { chosen.run = [options] { return run(*options); }; });
}

}  // namespace cosub::commands
