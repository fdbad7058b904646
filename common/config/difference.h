// Where two pipelines differ in what decides the numbers of a run: identity_hash() says that they do, this
// says where.
#pragma once

#include <string>
#include <vector>

#include "common/config/pipeline.h"

namespace cosub::config {

struct Difference {
  std::string stage;          // the one concerned; "": every stage
  std::string key;            // as --set names it: seed, stages.finetune.optimizer.lr
  std::string before, after;  // one short line each; "nothing" where there is no such key or stage
};

/// In the order of `before`, then what only `after` has. Stages are matched by name: their order decides
/// nothing.
std::vector<Difference> deciding_differences(const PipelineConfig& before, const PipelineConfig& after);

}  // namespace cosub::config
