#include "worker/data/source.h"

#include "common/error.h"
#include "worker/data/idx_source.h"

namespace cosub::data {

std::unique_ptr<Source> open_source(const config::SourceConfig& config, std::int64_t classes) {
  if (config.idx) return open_idx_source(*config.idx, config.limit, classes);
  throw ConfigError("no samples are named: set data.train.idx or data.val.idx, each with images and labels");
}

}  // namespace cosub::data
