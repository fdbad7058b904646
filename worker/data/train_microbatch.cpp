#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"
#include "worker/data/loader.h"
#include "worker/data/mix.h"
#include "worker/data/transform.h"

namespace cosub::data {
namespace {

constexpr std::int64_t kMaxBadInARow = 100;

/// Fills rows of a microbatch, one after another.
class RowMaker {
 public:
  RowMaker(const Source& source, const TrainLoader::Options& options)
      : source_(source),
        sampler_(sampler_of(options.data, options.stream, source.size())),
        transform_(options.data, source.channels(), options.image_size, options.stream) {}

  /// The sample at `place`, or the next one of the epoch's order that can be decoded; returns its label.
  std::int64_t make(std::int64_t epoch, const StepPlan::Place& place, Microbatch& microbatch, float* row) {
    std::string reason;
    const std::int64_t tries = std::min(kMaxBadInARow, source_.size());
    for (std::int64_t k = 0; k < tries; ++k) {
      const std::int64_t index = sampler_.sample(epoch, (place.position + k) % source_.size());
      try {
        const StoredImage stored = source_.read(index, buffers_.stored);
        naming(source_, index, [&] { transform_.apply(stored, epoch, place.draw, buffers_, row); });
        return source_.label(index);
      } catch (const DataError& error) {
        reason = error.what();
        ++microbatch.bad_samples;
        microbatch.bad_reasons.push_back(reason);
      }
    }
    throw DataError(fmt::format("{} samples in a row cannot be read, the last one: {}", tries, reason));
  }

 private:
  const Source& source_;
  Sampler sampler_;
  TrainTransform transform_;
  ImageBuffers buffers_;
};

}  // namespace

Microbatch make_train_microbatch(const Source& source, const TrainLoader::Options& options, std::int64_t step,
                                 std::int64_t index) {
  const at::NoGradGuard no_grad;
  const StepPlan& plan = options.plan;
  const std::int64_t channels = source.channels(), size = options.image_size;
  RowMaker maker(source, options);

  Microbatch result;
  result.step = step;
  result.index = index;
  result.images = at::empty({plan.micro, channels, size, size}, at::kFloat);
  float* row = result.images.mutable_data_ptr<float>();
  std::vector<std::int64_t> labels(plan.micro);
  for (std::int64_t i = 0; i < plan.micro; ++i) {
    labels[i] =
        maker.make(plan.epoch_of(step), plan.place(step, index, i), result, row + i * channels * size * size);
  }
  const Mix mix = draw_mix(options.data.mix, size, options.stream, step, index);
  mix_images(mix, result.images);
  result.targets = mix_targets(mix, labels, options.classes, options.data.mix.smoothing, options.targets);
  return result;
}

}  // namespace cosub::data
