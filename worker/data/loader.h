// Training microbatches, made ahead of time. The trainer owns one TrainLoader and calls it from one thread;
// the loader owns its threads. Every number is keyed (common/random.h), so neither the threads nor the rank
// show in the result.
#pragma once

#include <cstdint>
#include <memory>

#include "worker/data/device_decoder.h"
#include "worker/data/microbatch.h"
#include "worker/data/sampler.h"
#include "worker/data/source.h"

namespace cosub::data {

/// How a stage divides `size` samples into steps, and the order of its epochs.
StepPlan plan_of(const config::StageConfig& stage, std::int64_t size);
Sampler sampler_of(const config::DataConfig& data, std::uint64_t stream, std::int64_t size);

/// Builds training microbatches ahead of time in data.loader_threads threads (0: in next() itself), in the
/// order they are asked for by next(): for each step from `first_step`, this rank's microbatches [begin, end)
/// ascending, or every stride-th of them.
class TrainLoader {
 public:
  /// Where images become inputs (inputs.h): in the loader's threads, or on the device in next(); kPixels
  /// leaves them as [B, S, S, C] uint8, neither erased nor mixed.
  enum class Delivery { kInputs, kDeviceInputs, kPixels };
  struct Options {
    config::DataConfig data;
    config::Targets targets = config::Targets::kSoft;
    std::int64_t classes = 0;
    std::int64_t image_size = 0;
    std::uint64_t stream = 0;
    StepPlan plan;
    std::int64_t first_step = 0, end_step = 0;
    std::int64_t begin = 0, end = 0;  // this rank's microbatches of each step,
    std::int64_t stride = 1;          // begin, begin + stride, ... below end
    std::int64_t prefetch = 4;        // microbatches ready or in the making at most
    Delivery delivery = Delivery::kInputs;
    at::Device device = at::kCPU;         // of kDeviceInputs
    MakeDeviceDecoder make_decoder = {};  // kDeviceInputs: decodes on `device`; null: the threads decode
  };
  /// ConfigError when the plan does not fit the source (sizes, channels of mean and std) or RandAugment's
  /// string cannot be understood.
  TrainLoader(std::shared_ptr<const Source> source, const Options& options);
  ~TrainLoader();  // waits for microbatches in the making only, and not for a read that hangs
  /// Blocks until the next one is there. DataError when 100 samples in a row are bad (how many may be bad of
  /// the whole set is the trainer's to judge: bad_share.h); IoError when storage fails, or does not answer
  /// within data.read_timeout; std::logic_error past the end.
  Microbatch next();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// One training microbatch, computed in the calling thread: what TrainLoader's threads call, and what tools
/// and tests use to replay a step. A bad sample is replaced by the next one of the epoch's order; DataError
/// when 100 in a row are bad.
Microbatch make_train_microbatch(const Source& source, const TrainLoader::Options& options, std::int64_t step,
                                 std::int64_t index);

}  // namespace cosub::data
