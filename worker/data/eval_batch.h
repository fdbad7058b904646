// Evaluation batches: every sample once, in file order, nothing random. Pure; runs on the calling thread.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "worker/data/source.h"

namespace cosub::data {

/// Samples [first, first + count) resized, normalised, not augmented. An image gives the same bits in every
/// batch.
struct EvalBatch {
  at::Tensor images;  // [count, C, S, S] float32
  at::Tensor labels;  // [count] int64
};

/// A sample that cannot be decoded is an error here (DataError): the metrics would not be of the whole set.
EvalBatch make_eval_batch(const Source& source, const config::DataConfig& data, std::int64_t image_size,
                          std::int64_t first, std::int64_t count);

}  // namespace cosub::data
