#include "coordinator/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/error.h"

namespace cosub::coordinator {
namespace {

std::int64_t number_or(const std::string& digits, std::int64_t otherwise) {
  std::int64_t value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && end == digits.data() + digits.size() ? value : otherwise;
}

template <class Visit>
void for_each_entry(const std::filesystem::path& folder, Visit visit) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error))
    visit(entry->path().filename().string());
}

double seconds_of(const StageState& stage) {
  double sum = 0;
  for (const AttemptState& attempt : stage.attempts) sum += attempt.seconds;
  return sum;
}

}  // namespace

std::optional<StageResult> read_result(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return std::nullopt;
  StageResult result;
  try {
    const nlohmann::json json = nlohmann::json::parse(read_file(file));
    result.step = json.value("step", std::int64_t{0});
    result.export_path = json.value("export_path", std::string());
    if (json.contains("metrics"))
      for (const auto& [name, value] : json.at("metrics").items())
        if (value.is_number()) result.metrics[name] = value.get<double>();
  } catch (const nlohmann::json::exception& problem) {
    throw DataError(fmt::format("{}: not a result as rank 0 writes it: {}", file.string(), problem.what()));
  }
  return result;
}

nlohmann::json nested(const std::map<std::string, double>& metrics) {
  nlohmann::json root = nlohmann::json::object();
  for (const auto& [name, value] : metrics) {
    nlohmann::json* place = &root;
    std::size_t from = 0;
    for (std::size_t dot; (dot = name.find('.', from)) != std::string::npos; from = dot + 1) {
      nlohmann::json& child = (*place)[name.substr(from, dot - from)];
      if (!child.is_object())
        child = nlohmann::json::object();  // a name that is both value and prefix: keep the deeper
      place = &child;
    }
    (*place)[name.substr(from)] = value;
  }
  return root;
}

nlohmann::json results_json(const PipelineState& pipeline) {
  nlohmann::json stages = nlohmann::json::object();
  double seconds = 0;
  for (const StageState& stage : pipeline.stages) {
    nlohmann::json entry = nested(stage.results);
    entry["state"] = to_string(stage.status);
    entry["attempts"] = stage.attempts.size();
    entry["seconds"] = seconds_of(stage);
    if (!stage.export_path.empty()) entry["path"] = stage.export_path;
    if (stage.status != StageStatus::kSucceeded && !stage.reason.empty()) entry["reason"] = stage.reason;
    seconds += seconds_of(stage);
    stages[stage.name] = std::move(entry);
  }
  return {{"name", pipeline.name},
          {"state", pipeline_status(pipeline).state},
          {"seconds", seconds},
          {"stages", std::move(stages)}};
}

void write_results(const PipelineState& pipeline) {
  write_file_atomically(pipeline.folder / "results.json", results_json(pipeline).dump(2) + "\n");
}

std::int64_t newest_checkpoint(const StageFolder& stage) {
  std::int64_t newest = -1;
  for_each_entry(stage.checkpoints(), [&](const std::string& name) {
    if (name.starts_with("step-")) newest = std::max(newest, number_or(name.substr(5), -1));
  });
  return newest;
}

bool has_checkpoints(const StageFolder& stage) {
  std::error_code error;
  std::filesystem::directory_iterator entry(stage.checkpoints(), error);
  for (const std::filesystem::directory_iterator end; !error && entry != end; entry.increment(error))
    if (entry->path().filename().string().starts_with("step-")) return true;
  // What cannot be looked into is not taken for empty.
  return error && error != std::errc::no_such_file_or_directory;
}

std::int64_t highest_attempt(const StageFolder& stage) {
  std::int64_t highest = read_fence(stage);
  for_each_entry(stage.attempts(),
                 [&](const std::string& name) { highest = std::max(highest, number_or(name, 0)); });
  return highest;
}

}  // namespace cosub::coordinator
