// `cosub data verify`: decodes every sample of a source and names those that cannot be.
#pragma once

#include <cstdint>
#include <limits>

#include "common/config/pipeline.h"
#include "common/exit_code.h"
#include "worker/tools/source_arguments.h"

namespace cosub::tools {

struct DataVerifyOptions {
  SourceArguments source;
  std::int64_t channels = 3;
  std::int64_t classes = std::numeric_limits<std::int32_t>::max();
  std::int64_t threads = 1;
};

/// One line per bad sample on stdout, in the order of the source; then a summary. kBadInput when there is
/// one.
ExitCode run_data_verify(const DataVerifyOptions& options);

}  // namespace cosub::tools
