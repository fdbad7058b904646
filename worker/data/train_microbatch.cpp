#include "worker/data/train_microbatch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/error.h"

namespace cosub::data {
namespace {

constexpr std::int64_t kMaxBadInARow = 100;

EraseMode erase_mode(const config::DataConfig& data) {
  return data.augment.erasing_mode == config::ErasingMode::kPixel ? EraseMode::kPixel : EraseMode::kConst;
}

}  // namespace

MicrobatchMaker::MicrobatchMaker(const Source& source, const TrainLoader::Options& options)
    : source_(source),
      options_(options),
      sampler_(sampler_of(options.data, options.stream, source.size())),
      reader_(source, options.data),
      transform_(options.data, source.channels(), options.image_size, options.stream),
      normalizer_(options.data, source.channels()),
      device_inputs_(options.device, options.data, source.channels()) {}

/// The image of the sample at `place`, or of the next one of the epoch's order that can be decoded, in
/// buffers.a; returns its label.
std::int64_t MicrobatchMaker::make_row(const StepPlan::Place& place, std::int64_t epoch,
                                       Microbatch& microbatch, Activity& activity,
                                       ImageBuffers& buffers) const {
  std::string reason;
  const std::int64_t tries = std::min(kMaxBadInARow, source_.size());
  for (std::int64_t k = 0; k < tries; ++k) {
    const std::int64_t index = sampler_.sample(epoch, (place.position + k) % source_.size());
    try {
      const StoredImage stored = reader_.read(index, buffers, activity);
      naming(source_, index, [&] { transform_.apply(stored, epoch, place.draw, buffers); });
      return source_.label(index);
    } catch (const DataError& error) {
      reason = error.what();
      microbatch.bad.push_back({index, reason});
    }
  }
  throw DataError(fmt::format("{} samples in a row cannot be read, the last one: {}", tries, reason));
}

PreparedMicrobatch MicrobatchMaker::make(std::int64_t step, std::int64_t index, Activity& activity) {
  thread_local ImageBuffers buffers;
  const at::NoGradGuard no_grad;
  const StepPlan& plan = options_.plan;
  const std::int64_t channels = source_.channels(), size = options_.image_size, epoch = plan.epoch_of(step);
  const std::int64_t row_values = channels * size * size;
  const EraseMode mode = erase_mode(options_.data);

  PreparedMicrobatch prepared;
  Microbatch& result = prepared.microbatch;
  result.step = step;
  result.index = index;
  float* inputs = nullptr;
  std::uint8_t* pixels = nullptr;
  if (makes_inputs()) {
    result.images = pool_.take({plan.micro, channels, size, size}, at::kFloat);
    inputs = result.images.mutable_data_ptr<float>();
  } else {
    prepared.rows.pixels = device_inputs_.take_pixels({plan.micro, size, size, channels});
    pixels = prepared.rows.pixels.mutable_data_ptr<std::uint8_t>();
  }
  std::vector<std::int64_t> labels(plan.micro);
  for (std::int64_t i = 0; i < plan.micro; ++i) {
    const StepPlan::Place place = plan.place(step, index, i);
    labels[i] = make_row(place, epoch, result, activity, buffers);
    const std::vector<ErasedBox> erased = transform_.draw_erased(epoch, place.draw);
    if (makes_inputs()) {
      float* row = inputs + i * row_values;
      normalizer_.apply(buffers.a, row);
      for (const ErasedBox& box : erased) {
        erase(box, mode, channels, size, size, std::span(row, static_cast<std::size_t>(row_values)));
      }
    } else {
      std::memcpy(pixels + i * row_values, buffers.a.pixels.data(), row_values);
      for (const ErasedBox& box : erased) {
        prepared.rows.erased.push_back(make_patch(box, mode, channels, i));
      }
    }
  }
  const Mix mix = draw_mix(options_.data.mix, size, options_.stream, step, index);
  result.targets = mix_targets(mix, labels, options_.classes, options_.data.mix.smoothing, options_.targets);
  if (makes_inputs()) {
    mix_images(mix, result.images);
  } else {
    prepared.rows.mix = mix;
    if (options_.delivery == TrainLoader::Delivery::kDeviceInputs) device_inputs_.send(prepared.rows);
  }
  return prepared;
}

Microbatch MicrobatchMaker::finish(PreparedMicrobatch prepared) {
  Microbatch result = std::move(prepared.microbatch);
  if (options_.delivery == TrainLoader::Delivery::kPixels) result.images = prepared.rows.pixels;
  if (options_.delivery == TrainLoader::Delivery::kDeviceInputs) {
    const at::NoGradGuard no_grad;
    result.images = device_inputs_.receive(std::move(prepared.rows));
  }
  return result;
}

Microbatch make_train_microbatch(const Source& source, const TrainLoader::Options& options, std::int64_t step,
                                 std::int64_t index) {
  MicrobatchMaker maker(source, options);
  Activity activity;
  return maker.finish(maker.make(step, index, activity));
}

}  // namespace cosub::data
