// STAGE/result.json: written by rank 0, atomically, when a stage is complete; the coordinator reads it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "worker/train/evaluator.h"
#include "worker/train/job.h"

namespace cosub::train {

struct StageResult {
  std::int64_t step = 0;
  std::map<std::string, double> metrics;  // top1, top5, loss, submodels.NAME.top1, ...
  std::filesystem::path export_path;      // of an export stage
  std::int64_t samples = 0;               // images evaluated
  std::string param_hash;                 // of parameters and buffers at the end
};

/// Adds top1, top5 and loss under `prefix` ("" or "submodels.NAME.").
void add_metrics(std::map<std::string, double>& metrics, const std::string& prefix, const EvalResult& result);

/// Error when a newer attempt holds the fence. Only rank 0 writes; the others return at once.
void write_result(const Job& job, const StageResult& result);

}  // namespace cosub::train
