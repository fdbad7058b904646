// cosub watch and cosub cancel: follow or stop a pipeline that somebody else's coordinator runs.
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "common/error.h"
#include "launcher/commands/command.h"
#include "launcher/commands/connection.h"
#include "launcher/commands/progress.h"

namespace cosub::commands {

namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(500);
constexpr auto kPatience = std::chrono::seconds(60);

struct PipelineOptions {
  std::string name, state, runs = "runs";
  bool now = false, json = false;
};

void add_common_options(CLI::App& command, PipelineOptions& options) {
  command.add_option("name", options.name, "Pipeline")->required();
  command.add_option(
      "--state", options.state,
      "State folder of the coordinator (default: $COSUB_STATE, else that of the named run while it runs, "
      "else ~/.local/state/cosub)");
  command.add_option("--runs", options.runs, "Folder of the runs")->capture_default_str();
}

int exit_code_of(const std::string& state) {
  if (state == "succeeded") return static_cast<int>(ExitCode::kDone);
  return static_cast<int>(state == "stopped" ? ExitCode::kInterrupted : ExitCode::kFailure);
}

int watch(const PipelineOptions& options) {
  const bool terminal = isatty(STDOUT_FILENO);
  const auto state = choose_state_folder(options.state, options.name, options.runs);
  auto connection = std::make_unique<Connection>(state);
  ProgressPrinter printer(terminal ? Style::kLive : Style::kPlain);
  auto last_answer = std::chrono::steady_clock::now();
  for (;;) {
    if (const auto view = connection->try_pipeline(options.name)) {
      last_answer = std::chrono::steady_clock::now();
      printer.show(*view);
      if (view->state == "succeeded" || view->state == "failed" || view->state == "stopped") {
        printer.note(final_report(*view, terminal));
        return exit_code_of(view->state);
      }
    } else if (std::chrono::steady_clock::now() - last_answer > kPatience) {
      throw IoError(fmt::format("the coordinator at {} has not answered for {} s; its jobs go on without it",
                                connection->address(), kPatience.count()));
    } else if (const auto endpoint = read_endpoint(state); endpoint && is_alive(endpoint->process)) {
      connection = std::make_unique<Connection>(state);  // it was started again, perhaps on another port
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

int cancel(const PipelineOptions& options) {
  Connection connection(choose_state_folder(options.state, options.name, options.runs));
  const auto view = connection.stop(options.name, options.now, "cancelled");
  if (options.json) {
    fmt::print("{}\n", protocol::dump(view));
  } else {
    fmt::print("{} is {}; submitting the same file again lets it go on\n", view.name, view.state);
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

void add_watch(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<PipelineOptions>();
  CLI::App* command = app.add_subcommand("watch", "Follow a pipeline until it ends");
  command->footer(
      "Ctrl-C leaves the pipeline alone. The exit code is the pipeline's: 0, 75 stopped, 1 failed.");
  add_common_options(*command, *options);
  command->callback([options, &chosen] { chosen.run = [options] { return watch(*options); }; });
}

void add_cancel(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<PipelineOptions>();
  CLI::App* command = app.add_subcommand("cancel", "Stop a pipeline after a checkpoint");
  command->footer("Nothing is lost: submitting or running the same file again goes on from the checkpoint.");
  add_common_options(*command, *options);
  command->add_flag("--now", options->now, "At once, without a checkpoint");
  command->add_flag("--json", options->json, "Print the pipeline's state as JSON");
  command->callback([options, &chosen] { chosen.run = [options] { return cancel(*options); }; });
}

}  // namespace cosub::commands
