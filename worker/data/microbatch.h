// What the data path hands to training: microbatches, each a pure function of (stream, epoch or step, its samples).
// Loaders own threads and buffers; a Microbatch owns its tensors.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/config/pipeline.h"

namespace cosub::data {

struct Microbatch {
  std::int64_t step = 0;         // optimizer step, from 0
  std::int64_t index = 0;        // within the step's list of microbatches, from 0
  at::Tensor images;             // [B, C, S, S] float32, normalised, mixed
  at::Tensor targets;            // [B, classes] float32, mixed, smoothed (and binarised)
  std::int64_t bad_samples = 0;  // that were replaced by their neighbour
};

/// Decoded samples by index. Thread-safe for reading.
class Source {
 public:
  virtual ~Source() = default;
  virtual std::int64_t size() const = 0;
  virtual std::int64_t channels() const = 0;
  virtual std::int64_t label(std::int64_t index) const = 0;
  /// uint8 [C, H, W]; DataError naming file and sample when it cannot be decoded.
  virtual at::Tensor image(std::int64_t index) const = 0;
};

/// Opens what the config names; checks labels against `classes`. DataError (file, what, remedy) on bad content.
std::unique_ptr<Source> open_source(const config::SourceConfig& config, std::int64_t classes);

/// The epoch's order: position -> sample, a permutation keyed by (stream, epoch), in O(1) memory (Feistel network
/// with cycle walking: Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).
class Sampler {
 public:
  Sampler(std::uint64_t stream, std::int64_t size);
  std::int64_t sample(std::int64_t epoch, std::int64_t position) const;

 private:
  std::uint64_t stream_;
  std::int64_t size_;
};

/// Where steps lie: an epoch has floor(size / global) steps (the rest of its order is dropped; the next epoch's order
/// is another one). Step s is in epoch s / steps_per_epoch; its microbatch m holds positions
/// (s % steps_per_epoch) * global + m * micro ... + micro.
struct StepPlan {
  std::int64_t size = 0, global = 0, micro = 0;
  std::int64_t steps_per_epoch() const { return size / global; }
  std::int64_t microbatches() const { return global / micro; }
};

/// Builds training microbatches ahead of time in its own threads, in the order they are asked for by next(): for each
/// step from `first_step`, this rank's microbatches [begin, end) ascending. Deterministic whatever the threads do.
class TrainLoader {
 public:
  struct Options {
    config::DataConfig data;
    config::Targets targets = config::Targets::kSoft;
    std::int64_t classes = 0;
    std::int64_t image_size = 0;
    std::uint64_t stream = 0;
    StepPlan plan;
    std::int64_t first_step = 0, end_step = 0;
    std::int64_t begin = 0, end = 0;       // this rank's microbatches of each step
    std::int64_t prefetch = 4;             // microbatches
  };
  TrainLoader(std::shared_ptr<const Source> source, Options options);
  ~TrainLoader();
  /// Blocks until the next one is there. DataError when max_bad_share is passed; std::logic_error past the end.
  Microbatch next();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// One training microbatch, computed in the calling thread: what TrainLoader's threads call, and what tools and tests
/// use to replay a step.
Microbatch make_train_microbatch(const Source& source, const TrainLoader::Options& options, std::int64_t step,
                                 std::int64_t index);

/// Evaluation batch: samples [first, first + count) in file order, resized, normalised, not augmented. `labels` int64.
struct EvalBatch {
  at::Tensor images;  // [count, C, S, S] float32
  at::Tensor labels;  // [count] int64
};
EvalBatch make_eval_batch(const Source& source, const config::DataConfig& data, std::int64_t image_size,
                          std::int64_t first, std::int64_t count);

}  // namespace cosub::data
