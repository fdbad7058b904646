#include "launcher/commands/preflight.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <sstream>

#include "common/error.h"
#include "common/exit_code.h"
#include "common/first_few.h"
#include "common/process.h"
#include "common/run_folder.h"
#include "common/shard_list.h"
#include "launcher/backends/backend.h"
#include "launcher/backends/mpirun_command.h"
#include "launcher/commands/program_output.h"

namespace cosub::commands {

namespace fs = std::filesystem;

namespace {

void check_file(const std::string& key, const fs::path& path, std::vector<std::string>& problems) {
  if (path.empty()) return;
  if (!fs::exists(path)) {
    std::string remedy;
    if (path.string().starts_with("/usr/share/datasets/fashion-mnist"))
      remedy = "; apt-get install dataset-fashion-mnist";
    problems.push_back(fmt::format("{}: {} is not there{}", key, path.string(), remedy));
  } else if (access(path.c_str(), R_OK) != 0) {
    problems.push_back(fmt::format("{}: {} cannot be read by this user", key, path.string()));
  }
}

void check_source(const std::string& key, const config::SourceConfig& source,
                  std::vector<std::string>& problems) {
  check_file(key + ".folder", source.folder, problems);
  check_file(key + ".list", source.list, problems);
  check_file(key + ".class_map", source.class_map, problems);
  for (const std::string& problem : first_few(list_shards(source.shards).problems)) {
    problems.push_back(fmt::format("{}.shards: {}", key, problem));
  }
  if (!source.idx) return;
  check_file(key + ".idx.images", source.idx->images, problems);
  check_file(key + ".idx.labels", source.idx->labels, problems);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    if (!line.empty()) lines.push_back(line);
  return lines;
}

std::string indented(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "\n  " + line;
  return text;
}

}  // namespace

std::vector<std::string> missing_inputs(const config::PipelineConfig& pipeline) {
  std::vector<std::string> problems;
  for (const auto& stage : pipeline.stages) {
    const std::string key = "stages." + stage.name;
    if (stage.task == config::TaskKind::kClassify)
      check_source(key + ".data.train", stage.data.train, problems);
    if (stage.task != config::TaskKind::kExport) check_source(key + ".data.val", stage.data.val, problems);
    check_file(key + ".init.weights", stage.init.weights_file, problems);
  }
  return problems;
}

ModelCheck check_models(const fs::path& worker, const fs::path& file,
                        const std::vector<std::string>& overrides) {
  constexpr auto kLimit = std::chrono::seconds(60);
  std::error_code ignored;  // what cannot be looked at does not start either
  if (!fs::exists(worker, ignored)) return {{}, worker.string() + " is not there"};
  std::vector<std::string> argv = {worker.string(), "model", "check", file.string()};
  for (const std::string& text : overrides) argv.insert(argv.end(), {"--set", text});
  const ProgramOutput said = run_program(argv, kLimit);
  ModelCheck check;
  // The launcher has read the file already: what the worker says of it beside its problems is that it could
  // not.
  const std::vector<std::string> problems = lines_of(said.output), lines = lines_of(said.errors);
  if (said.ran && said.code == static_cast<int>(ExitCode::kBadInput) && !problems.empty()) {
    check.problems = problems;
  } else if (!said.ran || said.code != 0) {
    check.skipped = fmt::format("{} {}{}", worker.string(),
                                said.ran ? fmt::format("ended with {}", said.code) : "gave no answer",
                                lines.empty() ? "" : ": " + lines.back());
  }
  return check;
}

void require_ready(const config::PipelineConfig& pipeline, const fs::path& file,
                   const std::vector<std::string>& overrides) {
  std::string text;
  if (const auto missing = missing_inputs(pipeline); !missing.empty())
    text = "what the pipeline names is not all there:" + indented(missing);
  const ModelCheck models = check_models(executable_folder() / "cosub-worker", file, overrides);
  if (!models.skipped.empty()) fmt::print(stderr, "note: the models were not checked: {}\n", models.skipped);
  if (!models.problems.empty())
    text += (text.empty() ? "" : "\n") + ("not every stage can run:" + indented(models.problems));
  if (!text.empty()) throw ConfigError(text);
}

std::vector<std::pair<std::string, std::string>> stage_commands(const config::PipelineConfig& pipeline) {
  const auto backend = launcher::make_backend(pipeline.cluster.backend);
  std::vector<std::pair<std::string, std::string>> commands;
  for (const auto& stage : pipeline.stages) {
    const StageFolder folder{fs::absolute(pipeline.runs / pipeline.name / stage.name)};
    launcher::LaunchSpec spec;
    spec.uuid = "UUID";
    spec.attempt = 1;
    spec.attempt_folder = folder.attempt(1);
    spec.worker_argv = {(executable_folder() / "cosub-worker").string(), "run", folder.stage_yaml().string(),
                        "--attempt-folder", folder.attempt(1).string()};
    spec.ranks = pipeline.cluster.ranks;
    spec.hosts = pipeline.cluster.hosts;
    spec.environment = {{"COSUB_ATTEMPT", "UUID"},
                        {"OMP_NUM_THREADS", std::to_string(stage.threads)},
                        {"OMP_WAIT_POLICY", "passive"}};
    commands.emplace_back(stage.name, launcher::shell_quoted(backend->command(spec)));
  }
  return commands;
}

}  // namespace cosub::commands
