// One training microbatch: a pure function of (stream, step, index), computed in the calling thread.
#pragma once

#include "worker/data/device_rows.h"
#include "worker/data/inputs.h"
#include "worker/data/loader.h"
#include "worker/data/microbatch.h"
#include "worker/data/picture_reader.h"
#include "worker/data/transform.h"

namespace cosub::data {

/// What the threads of a loader hand over: the microbatch, and where its images are not inputs yet, its rows.
struct PreparedMicrobatch {
  Microbatch microbatch;
  PixelRows rows;  // pixels undefined: microbatch.images is there
};

/// Makes the microbatches of one source. Thread-safe.
class MicrobatchMaker {
 public:
  /// The source must outlive it. Errors as TrainLoader's constructor.
  MicrobatchMaker(const Source& source, const TrainLoader::Options& options);
  /// Errors as make_train_microbatch.
  PreparedMicrobatch make(std::int64_t step, std::int64_t index, Activity& activity);
  /// The rest of the way, in the training thread.
  Microbatch finish(PreparedMicrobatch prepared);

 private:
  std::int64_t make_row(const StepPlan::Place& place, std::int64_t epoch, Microbatch& microbatch,
                        Activity& activity, ImageBuffers& buffers) const;
  std::vector<std::int64_t> make_rows(std::int64_t epoch, PreparedMicrobatch& prepared, Activity& activity,
                                      ImageBuffers& buffers);
  std::vector<std::int64_t> make_rows_on_device(std::int64_t epoch, PreparedMicrobatch& prepared,
                                                DeviceDecoder& decoder, Activity& activity,
                                                ImageBuffers& buffers);
  void erase_rows(std::int64_t epoch, PreparedMicrobatch& prepared) const;
  void mix_rows(const std::vector<std::int64_t>& labels, PreparedMicrobatch& prepared);
  bool makes_inputs() const { return options_.delivery == TrainLoader::Delivery::kInputs; }

  const Source& source_;
  const TrainLoader::Options options_;
  const Sampler sampler_;
  const PictureReader reader_;
  const TrainTransform transform_;
  const Normalizer normalizer_;
  TensorPool pool_;
  DeviceInputs device_inputs_;
  DecoderPool decoders_;
};

}  // namespace cosub::data
