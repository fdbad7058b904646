// The evaluate task: top-1, top-5 and loss of the full model and of each named submodel on the whole
// validation set.
#pragma once

#include "common/exit_code.h"
#include "worker/data/source.h"
#include "worker/train/job.h"

namespace cosub::train {

/// Collective. kDone with result.json written; kInterrupted when asked to stop before all was evaluated.
ExitCode run_evaluate(Job& job, const std::shared_ptr<const data::Source>& val);

}  // namespace cosub::train
