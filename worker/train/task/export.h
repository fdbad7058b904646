// The export task: writes the trained model to STAGE/model in the format that timm loads.
#pragma once

#include "common/exit_code.h"
#include "worker/train/job.h"

namespace cosub::train {

/// Collective; rank 0 writes. kDone with result.json naming the folder.
ExitCode run_export(Job& job);

}  // namespace cosub::train
