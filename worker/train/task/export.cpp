#include "worker/train/task/export.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "common/error.h"
#include "worker/train/agreement.h"
#include "worker/train/export_model.h"
#include "worker/train/flat_state.h"
#include "worker/train/initial_weights.h"
#include "worker/train/result.h"

namespace cosub::train {

ExitCode run_export(Job& job) {
  job.telemetry.set_phase("exporting");
  LoadedModel loaded = load_finished_model(job);
  on_all_ranks(job.communicator, "exporting", [&] {
    if (!job.is_root()) return;
    std::string sha256 = export_model(*loaded.model, loaded.timm_config, job.folder.exported());
    spdlog::info("exported {} to {}", loaded.description, job.folder.exported().string());
    spdlog::info("sha256 of model.safetensors: {}", sha256);
    write_result(job, {.step = 0,
                       .metrics = {},
                       .export_path = job.folder.exported(),
                       .samples = 0,
                       .param_hash = FlatState(*loaded.model).hash()});
  });
  job.communicator.barrier("the end of the stage");
  return ExitCode::kDone;
}

}  // namespace cosub::train
