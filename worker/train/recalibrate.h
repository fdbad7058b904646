// BatchNorm's running statistics estimated anew, for a submodel or other weights than those they were
// collected with.
#pragma once

#include <cstdint>
#include <memory>

#include "common/config/pipeline.h"
#include "worker/data/source.h"
#include "worker/model/model.h"

namespace cosub::train {

/// Replaces the running statistics by the mean over batches of the first `num_images` images, prepared as for
/// evaluation, through the submodel that `pass` names. Equal for equal arguments. Nothing happens in a model
/// without BatchNorm. ConfigError when the source has fewer images.
void recalibrate_batch_norm(model::Backbone& model, const std::shared_ptr<const data::Source>& source,
                            const config::DataConfig& data, model::Pass pass, std::int64_t num_images);

}  // namespace cosub::train
