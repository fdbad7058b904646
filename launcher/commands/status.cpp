// cosub status: what the coordinator knows, or, when none runs any more, what the run's folder says.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/text.h"
#include "launcher/commands/command.h"
#include "launcher/commands/connection.h"

namespace cosub::commands {

namespace {

namespace fs = std::filesystem;

struct StatusOptions {
  std::string name, state, runs = "runs";
  bool json = false, attempts = false;
};

std::string progress_text(const protocol::StageView& stage) {
  if (stage.progress.total_steps <= 0) return "";
  return fmt::format("{}/{}", stage.progress.step, stage.progress.total_steps);
}

void print_attempts(const protocol::PipelineView& view) {
  std::vector<std::vector<std::string>> rows = {
      {"stage", "attempt", "state", "exit", "time", "how it ended", "folder"}};
  for (const auto& stage : view.stages) {
    for (const auto& attempt : stage.attempts) {
      rows.push_back({stage.name, std::to_string(attempt.number), attempt.state,
                      attempt.exit_code < 0 ? "" : std::to_string(attempt.exit_code),
                      format_duration(attempt.seconds), attempt.reason, attempt.folder});
    }
  }
  fmt::print("\n{}", table(rows));
}

void print_view(const protocol::PipelineView& view, bool attempts) {
  fmt::print("{}: {}{}\n", view.name, view.state, view.reason.empty() ? "" : " (" + view.reason + ")");
  std::vector<std::vector<std::string>> rows = {
      {"stage", "state", "steps", "top-1 %", "time", "attempts", "why"}};
  for (const auto& stage : view.stages) {
    const auto top1 = stage.results.find("top1");
    rows.push_back({stage.name, stage.state, progress_text(stage),
                    top1 == stage.results.end() ? "" : fmt::format("{:.2f}", 100 * top1->second),
                    stage.attempts.empty() ? "" : format_duration(stage.seconds),
                    std::to_string(stage.attempts.size()), stage.reason});
  }
  fmt::print("{}", table(rows));
  if (attempts) print_attempts(view);
}

/// What is left of a run whose coordinator is gone.
int status_from_folder(const StatusOptions& options) {
  const fs::path folder = fs::absolute(fs::path(options.runs) / options.name);
  const fs::path file = folder / "results.json";
  if (!fs::exists(file)) {
    throw ConfigError(
        fmt::format("no coordinator runs '{}' and {} is not there; --runs or --state names another place",
                    options.name, file.string()));
  }
  const std::string text = read_file(file);
  if (options.json) {
    fmt::print("{}\n", text);
    return static_cast<int>(ExitCode::kDone);
  }
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) throw IoError(fmt::format("{} is damaged: it is no JSON object", file.string()));
  fmt::print("{}: {} (no coordinator runs; from {})\n", options.name, json.value("state", "?"),
             file.string());
  std::vector<std::vector<std::string>> rows = {{"stage", "state", "top-1 %", "time", "attempts"}};
  for (const auto& [name, stage] : json.at("stages").items()) {
    rows.push_back({name, stage.value("state", "?"),
                    stage.contains("top1") ? fmt::format("{:.2f}", 100 * stage["top1"].get<double>()) : "",
                    format_duration(stage.value("seconds", 0.0)),
                    std::to_string(stage.value("attempts", 0))});
  }
  fmt::print("{}", table(rows));
  if (options.attempts) {
    std::vector<std::vector<std::string>> ended = {{"stage", "attempt", "exit", "how it ended", "folder"}};
    for (const auto& [name, stage] : json.at("stages").items()) {
      for (int n = 1; fs::exists(folder / name / "attempts" / std::to_string(n)); ++n) {
        const fs::path attempt = folder / name / "attempts" / std::to_string(n);
        const auto record = fs::exists(attempt / "exit.json")
                                ? nlohmann::json::parse(read_file(attempt / "exit.json"), nullptr, false)
                                : nlohmann::json::object();
        const bool known = record.is_object() && record.contains("exit_code");
        ended.push_back({name, std::to_string(n), known ? std::to_string(record["exit_code"].get<int>()) : "",
                         known ? record.value("reason", "") : "killed before it could say",
                         attempt.string()});
      }
    }
    fmt::print("\n{}", table(ended));
  }
  return static_cast<int>(ExitCode::kDone);
}

int status(const StatusOptions& options) {
  const fs::path state = choose_state_folder(options.state, options.name, options.runs);
  const auto endpoint = read_endpoint(state);
  const bool coordinator_runs = endpoint && is_alive(endpoint->process);
  if (!coordinator_runs && !options.name.empty() && options.state.empty()) return status_from_folder(options);
  Connection connection(state);
  std::vector<protocol::PipelineView> views;
  if (options.name.empty()) {
    views = connection.pipelines();
  } else {
    views.push_back(connection.pipeline(options.name));
  }
  if (options.json) {
    std::string text;
    for (const auto& view : views) text += (text.empty() ? "" : ",") + protocol::dump(view);
    fmt::print("{}\n", options.name.empty() ? "[" + text + "]" : text);
    return static_cast<int>(ExitCode::kDone);
  }
  if (views.empty()) fmt::print("no pipelines yet\n");
  for (const auto& view : views) print_view(view, options.attempts);
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

void add_status(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<StatusOptions>();
  CLI::App* command = app.add_subcommand("status", "What runs, what became of it, and why");
  command->footer(
      "  cosub status                          all pipelines of the coordinator\n"
      "  cosub status quickstart --attempts    how each attempt of each stage ended, and where its logs are");
  command->add_option("name", options->name, "Pipeline (default: all of the coordinator's)");
  command->add_option(
      "--state", options->state,
      "State folder of the coordinator (default: $COSUB_STATE, else that of the named run while it runs, "
      "else ~/.local/state/cosub)");
  command->add_option("--runs", options->runs, "Folder of the runs")->capture_default_str();
  command->add_flag("--attempts", options->attempts, "Every attempt, with its log folder");
  command->add_flag("--json", options->json, "As JSON");
  command->callback([options, &chosen] { chosen.run = [options] { return status(*options); }; });
}

}  // namespace cosub::commands
