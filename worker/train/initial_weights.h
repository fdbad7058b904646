// What a stage's model starts from: random, the newest checkpoint of another stage, or a safetensors file.
#pragma once

#include <string>

#include "worker/model/model.h"
#include "worker/train/export_model.h"
#include "worker/train/job.h"

namespace cosub::train {

/// True when rank 0 must load something (and so broadcast it).
bool has_initial_weights(const Job& job);

/// On rank 0 only, not collective: loads what stage.init names into `model`. Returns it in words. DataError
/// when the stage has no whole checkpoint or the weights do not fit (every tensor named).
std::string load_initial_weights(const Job& job, model::Backbone& model);

/// Collective: the model that an evaluate or export stage works on, built and loaded by every rank from what
/// rank 0 chose. Without a `model` of its own the stage takes the checkpoint's.
LoadedModel load_finished_model(const Job& job);

}  // namespace cosub::train
