// Evaluation batches: every sample once, in the source's order, nothing random. The evaluator owns the loader
// and calls it from one thread; the loader owns its threads.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

#include "worker/data/source.h"

namespace cosub::data {

/// An image gives the same bits in every batch.
struct EvalBatch {
  at::Tensor images;  // [count, C, S, S] float32 on the loader's device: resized, cropped, normalised
  at::Tensor labels;  // [count] int64 on CPU
};

class EvalLoader {
 public:
  struct Options {
    config::DataConfig data;
    std::int64_t image_size = 0;
    std::int64_t num_images = 0;      // the first of the source
    std::int64_t batch_images = 100;  // the last batch may be smaller
    std::int64_t begin = 0, end = 0;  // batches of this rank
    std::int64_t prefetch = 4;        // batches ready or in the making at most
    at::Device device = at::kCPU;
  };
  EvalLoader(std::shared_ptr<const Source> source, const Options& options);
  ~EvalLoader();
  /// Blocks until the next batch is there. A sample that cannot be decoded is an error here (DataError): the
  /// metrics would not be of the whole set. IoError as TrainLoader::next.
  EvalBatch next();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cosub::data
