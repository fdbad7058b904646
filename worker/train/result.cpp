#include "worker/train/result.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/error.h"

namespace cosub::train {

void add_metrics(std::map<std::string, double>& metrics, const std::string& prefix,
                 const EvalResult& result) {
  metrics[prefix + "top1"] = result.top1;
  metrics[prefix + "top5"] = result.top5;
  metrics[prefix + "loss"] = result.loss;
}

void write_result(const Job& job, const StageResult& result) {
  if (!job.is_root()) return;
  std::int64_t fence = read_fence(job.folder);
  if (fence > job.attempt)
    throw Error(fmt::format("attempt {} of stage {} may not write its result: attempt {} has taken over",
                            job.attempt, job.stage().name, fence));
  nlohmann::json json = {{"step", result.step},
                         {"metrics", result.metrics},
                         {"export_path", result.export_path.string()},
                         {"samples", result.samples},
                         {"param_hash", result.param_hash}};
  write_file_atomically(job.folder.result(), json.dump(2) + "\n");
}

}  // namespace cosub::train
