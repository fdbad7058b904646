// `cosub data bench`: how fast the loader is on a set of samples.
#pragma once

#include <cstdint>

#include "common/config/pipeline.h"
#include "common/exit_code.h"
#include "worker/data/loader.h"
#include "worker/tools/source_arguments.h"

namespace cosub::tools {

struct DataBenchOptions {
  SourceArguments source;
  config::DataConfig data;  // transforms, loader_threads
  std::int64_t channels = 3, image_size = 224, batch = 64;
  double seconds = 10;
  data::TrainLoader::Delivery delivery = data::TrainLoader::Delivery::kInputs;
  bool json = false;
};

/// Trains on nothing: takes microbatches for so long, after one pass over at most 2,000 samples, and prints
/// images per second and per second of processor time (user and system, of all threads).
ExitCode run_data_bench(const DataBenchOptions& options);

}  // namespace cosub::tools
