#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"
#include "worker/data/augment.h"
#include "worker/data/loader.h"
#include "worker/data/mix.h"

namespace cosub::data {
namespace {

constexpr std::int64_t kMaxBadInARow = 100;

struct Sample {
  at::Tensor image;
  std::int64_t label = 0;
};

/// The sample at `position` of the epoch's order, or the next one that can be decoded.
Sample read_sample(const Source& source, const Sampler& sampler, std::int64_t epoch, std::int64_t position,
                   Microbatch& microbatch) {
  std::string reason;
  const std::int64_t tries = std::min(kMaxBadInARow, source.size());
  for (std::int64_t k = 0; k < tries; ++k) {
    const std::int64_t index = sampler.sample(epoch, (position + k) % source.size());
    try {
      return {source.image(index), source.label(index)};
    } catch (const DataError& error) {
      reason = error.what();
      ++microbatch.bad_samples;
      microbatch.bad_reasons.push_back(reason);
    }
  }
  throw DataError(fmt::format("{} samples in a row cannot be read, the last one: {}", tries, reason));
}

}  // namespace

Microbatch make_train_microbatch(const Source& source, const TrainLoader::Options& options, std::int64_t step,
                                 std::int64_t index) {
  const at::NoGradGuard no_grad;
  const StepPlan& plan = options.plan;
  const config::AugmentConfig& augment = options.data.augment;
  const bool moves_pixels = augment.crop_padding_px > 0 || augment.flip > 0;
  const std::int64_t epoch = plan.epoch_of(step), first = plan.first_position(step, index);
  const std::int64_t channels = source.channels(), size = options.image_size;
  const Sampler sampler(options.stream, plan.size);
  const Normalizer normalizer(options.data, channels);

  Microbatch result;
  result.step = step;
  result.index = index;
  result.images = at::empty({plan.micro, channels, size, size}, at::kFloat);
  float* row = result.images.mutable_data_ptr<float>();
  std::vector<std::int64_t> labels(plan.micro);
  for (std::int64_t i = 0; i < plan.micro; ++i) {
    Sample sample = read_sample(source, sampler, epoch, first + i, result);
    labels[i] = sample.label;
    if (moves_pixels) {
      const Placement placement = draw_placement(augment, options.stream, epoch, first + i);
      sample.image = crop_and_flip(sample.image, augment.crop_padding_px, placement);
    }
    normalizer.apply(resize(sample.image, size), row + i * channels * size * size);
  }
  const Mix mix = draw_mix(options.data.mix, size, options.stream, step, index);
  mix_images(mix, result.images);
  result.targets = mix_targets(mix, labels, options.classes, options.data.mix.smoothing, options.targets);
  return result;
}

}  // namespace cosub::data
