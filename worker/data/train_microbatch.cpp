#include "worker/data/train_microbatch.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/StreamGuard.h>

#include <cstring>
#include <utility>

namespace cosub::data {
namespace {

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
      device_inputs_(options.device, options.data, source.channels()),
      decoders_(options.make_decoder, options.device) {}

/// The image of the sample at `place`, or of the next one of the epoch's order that can be decoded, in
/// buffers.a; returns its label.
std::int64_t MicrobatchMaker::make_row(const StepPlan::Place& place, std::int64_t epoch,
                                       Microbatch& microbatch, Activity& activity,
                                       ImageBuffers& buffers) const {
  Candidates candidates(sampler_, source_.size(), epoch, place.position);
  const std::int64_t index = candidates.find([&](std::int64_t sample) {
    const StoredImage stored = reader_.read(sample, buffers, activity);
    reader_.naming(sample, activity, [&] { transform_.apply(stored, epoch, place.draw, buffers); });
  });
  microbatch.bad.insert(microbatch.bad.end(), candidates.bad().begin(), candidates.bad().end());
  return source_.label(index);
}

/// Inputs or pixels of all rows, by this thread; returns their labels.
std::vector<std::int64_t> MicrobatchMaker::make_rows(std::int64_t epoch, PreparedMicrobatch& prepared,
                                                     Activity& activity, ImageBuffers& buffers) {
  Microbatch& result = prepared.microbatch;
  const std::int64_t rows = options_.plan.micro, channels = source_.channels(), size = options_.image_size;
  const std::int64_t row_values = channels * size * size;
  const EraseMode mode = erase_mode(options_.data);
  float* inputs = nullptr;
  std::uint8_t* pixels = nullptr;
  if (makes_inputs()) {
    result.images = pool_.take({rows, channels, size, size}, at::kFloat);
    inputs = result.images.mutable_data_ptr<float>();
  } else {
    prepared.rows.pixels = device_inputs_.take_pixels({rows, size, size, channels});
    pixels = prepared.rows.pixels.mutable_data_ptr<std::uint8_t>();
  }
  std::vector<std::int64_t> labels(rows);
  for (std::int64_t i = 0; i < rows; ++i) {
    const StepPlan::Place place = options_.plan.place(result.step, result.index, i);
    labels[i] = make_row(place, epoch, result, activity, buffers);
    if (!makes_inputs()) {
      std::memcpy(pixels + i * row_values, buffers.a.pixels.data(), row_values);
      continue;
    }
    float* row = inputs + i * row_values;
    normalizer_.apply(buffers.a, row);  // and erased while it is in the cache
    for (const ErasedBox& box : transform_.draw_erased(epoch, place.draw)) {
      erase(box, mode, channels, size, size, std::span(row, static_cast<std::size_t>(row_values)));
    }
  }
  return labels;
}

/// The same on the device, as pixels.
std::vector<std::int64_t> MicrobatchMaker::make_rows_on_device(std::int64_t epoch,
                                                               PreparedMicrobatch& prepared,
                                                               DeviceDecoder& decoder, Activity& activity,
                                                               ImageBuffers& buffers) {
  Microbatch& result = prepared.microbatch;
  std::vector<DeviceRow> rows;
  for (std::int64_t i = 0; i < options_.plan.micro; ++i) {
    const StepPlan::Place place = options_.plan.place(result.step, result.index, i);
    rows.emplace_back(Candidates(sampler_, source_.size(), epoch, place.position), place.draw);
  }
  DeviceRows maker(source_, options_, reader_, transform_, device_inputs_);
  prepared.rows.pixels = maker.make(rows, epoch, decoder, activity, buffers);
  std::vector<std::int64_t> labels;
  for (const DeviceRow& row : rows) {
    labels.push_back(source_.label(row.sample));
    result.bad.insert(result.bad.end(), row.candidates.bad().begin(), row.candidates.bad().end());
  }
  return labels;
}

/// What the device is to erase of its pixels.
void MicrobatchMaker::erase_rows(std::int64_t epoch, PreparedMicrobatch& prepared) const {
  const Microbatch& result = prepared.microbatch;
  for (std::int64_t i = 0; i < options_.plan.micro; ++i) {
    const std::int64_t draw = options_.plan.place(result.step, result.index, i).draw;
    for (const ErasedBox& box : transform_.draw_erased(epoch, draw)) {
      prepared.rows.erased.push_back(make_patch(box, erase_mode(options_.data), source_.channels(), i));
    }
  }
}

void MicrobatchMaker::mix_rows(const std::vector<std::int64_t>& labels, PreparedMicrobatch& prepared) {
  Microbatch& result = prepared.microbatch;
  const config::MixConfig& config = options_.data.mix;
  const Mix mix = draw_mix(config, options_.image_size, options_.stream, result.step, result.index);
  result.targets = mix_targets(mix, labels, options_.classes, config.smoothing, options_.targets);
  if (makes_inputs()) {
    mix_images(mix, result.images);
  } else {
    prepared.rows.mix = mix;
  }
}

PreparedMicrobatch MicrobatchMaker::make(std::int64_t step, std::int64_t index, Activity& activity) {
  thread_local ImageBuffers buffers;
  const at::NoGradGuard no_grad;
  const std::int64_t epoch = options_.plan.epoch_of(step);
  const bool for_device = options_.delivery == TrainLoader::Delivery::kDeviceInputs;

  PreparedMicrobatch prepared;
  prepared.microbatch.step = step;
  prepared.microbatch.index = index;
  if (for_device && decoders_.decodes()) {
    DecoderOnStream decoder = decoders_.take();
    const c10::OptionalStreamGuard on_stream(decoder.stream);
    const auto labels = make_rows_on_device(epoch, prepared, *decoder.decoder, activity, buffers);
    erase_rows(epoch, prepared);
    mix_rows(labels, prepared);
    device_inputs_.send(prepared.rows);
    decoders_.give_back(std::move(decoder));
    return prepared;
  }
  const auto labels = make_rows(epoch, prepared, activity, buffers);
  if (!makes_inputs()) erase_rows(epoch, prepared);
  mix_rows(labels, prepared);
  if (for_device) device_inputs_.send(prepared.rows);
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
