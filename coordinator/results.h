// What a stage left behind when it was complete (STAGE/result.json, written by rank 0), and
// runs/NAME/results.json, which the coordinator writes from it whenever a stage ends.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "coordinator/state.h"

namespace cosub::coordinator {

struct StageResult {
  std::int64_t step = 0;
  std::map<std::string, double> metrics;  // top1, submodels.even.top1, ...
  std::string export_path;
};

/// nullopt when there is no such file; DataError naming file and problem when it is not what rank 0 writes.
std::optional<StageResult> read_result(const std::filesystem::path& file);

/// Dots become objects: {"submodels.even.top1": 0.9} -> {"submodels": {"even": {"top1": 0.9}}}.
nlohmann::json nested(const std::map<std::string, double>& metrics);

nlohmann::json results_json(const PipelineState& pipeline);
void write_results(const PipelineState& pipeline);  // atomically

/// The step of the newest committed checkpoint by its name (step-000012000); -1 where there is none.
std::int64_t newest_checkpoint(const StageFolder& stage);

/// Whether the stage has any, damaged ones that were set aside included: it never starts from zero then.
bool has_checkpoints(const StageFolder& stage);

/// The highest attempt that left a trace in the stage's folder (attempts/N or the fence); 0 where there is
/// none.
std::int64_t highest_attempt(const StageFolder& stage);

}  // namespace cosub::coordinator
