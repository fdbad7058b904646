// Top-1, top-5 and loss over a validation set, over all ranks: each image counts exactly once. Batches have
// one fixed size whatever the number of ranks; ranks take contiguous ranges of batches; counts are integers
// and losses are added in batch order, so that the result has the same bits for any number of ranks.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "common/config/pipeline.h"
#include "worker/collective/communicator.h"
#include "worker/collective/reduction/partition.h"
#include "worker/data/source.h"
#include "worker/model/model.h"

namespace cosub::train {

struct EvalResult {
  double top1 = 0, top5 = 0;  // shares of images
  double loss = 0;            // mean cross-entropy
  std::int64_t images = 0;
};

struct Evaluation {
  std::shared_ptr<const data::Source> source;
  const config::DataConfig& data;
  model::Pass pass;                 // kFull, or kSubmodel with keep_block; images is filled in per batch
  std::int64_t batch_images = 100;  // the last batch may be smaller
  /// Called after each own batch with the share of own batches done; may be empty.
  std::function<void(double)> on_progress;
};

/// Collective. The model is in eval mode during the call and in the mode it was in afterwards.
EvalResult evaluate(model::Backbone& model, collective::Communicator& communicator,
                    const Evaluation& evaluation);

/// Half-open range of `count` things that belong to `rank`: contiguous, sizes differ by one at most.
collective::Range share_of(std::int64_t rank, std::int64_t world_size, std::int64_t count);

}  // namespace cosub::train
