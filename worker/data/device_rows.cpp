#include "worker/data/device_rows.h"

#include <ATen/ops/empty.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>
#include <utility>

#include "worker/data/device_resize.h"
#include "worker/data/image/decode.h"

namespace cosub::data {
namespace {

// Decoded pixels that wait for their resizing at most, unless one picture alone has more.
constexpr std::int64_t kDecodedBytes = 64 << 20;

}  // namespace

DecoderPool::DecoderPool(MakeDeviceDecoder make, at::Device device)
    : make_(std::move(make)), device_(device) {}

DecoderOnStream DecoderPool::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      DecoderOnStream decoder = std::move(idle_.back());
      idle_.pop_back();
      return decoder;
    }
  }
  DecoderOnStream made;
  if (!device_.is_cpu()) {
    made.stream = c10::impl::VirtualGuardImpl(device_.type()).getStreamFromGlobalPool(device_);
  }
  const c10::OptionalStreamGuard on_stream(made.stream);
  made.decoder = make_();
  return made;
}

void DecoderPool::give_back(DecoderOnStream decoder) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(decoder));
}

at::Tensor DeviceRows::make(std::span<DeviceRow> rows, std::int64_t epoch, DeviceDecoder& decoder,
                            Activity& activity, ImageBuffers& buffers) {
  const std::int64_t size = options_.image_size, channels = source_.channels();
  const at::Tensor pixels = at::empty({static_cast<std::int64_t>(rows.size()), size, size, channels},
                                      at::TensorOptions(at::kByte).device(options_.device));
  std::vector<EncodedRegion> files;
  std::vector<std::size_t> waiting;  // rows of `files`
  std::int64_t bytes = 0;
  const auto decode_waiting = [&] {
    if (files.empty()) return;
    const std::vector<at::Tensor> decoded = decoder.decode(files, channels);
    for (std::size_t k = 0; k < files.size(); ++k) {
      DeviceRow& row = rows[waiting[k]];
      const at::Tensor place = pixels.select(0, static_cast<std::int64_t>(waiting[k]));
      if (decoded[k].defined()) {
        resize_on_device(decoded[k], options_.data.interpolation, transform_.draw_flip(epoch, row.draw),
                         place);
      } else {
        make_on_cpu(row, epoch, place, activity, buffers);
      }
    }
    files.clear();
    waiting.clear();
    bytes = 0;
  };
  for (std::size_t i = 0; i < rows.size(); ++i) {
    DeviceRow& row = rows[i];
    start(row, epoch, pixels.select(0, static_cast<std::int64_t>(i)), activity, buffers);
    if (row.file.empty()) continue;
    const std::int64_t row_bytes = row.region.height * row.region.width * channels;
    if (bytes + row_bytes > kDecodedBytes) decode_waiting();
    files.push_back({std::span(row.file.data(), row.file.size()), row.region});
    waiting.push_back(i);
    bytes += row_bytes;
  }
  decode_waiting();
  return pixels;
}

/// Reads the row's file for the device, or makes the row where that file is not for it.
void DeviceRows::start(DeviceRow& row, std::int64_t epoch, at::Tensor pixels, Activity& activity,
                       ImageBuffers& buffers) {
  row.sample = row.candidates.find([&](std::int64_t sample) {
    const StoredImage stored = reader_.read(sample, buffers, activity);
    if (!stored.pixels && is_plain_jpeg(stored.bytes)) {
      row.region = transform_.draw_region(shape_of(stored), epoch, row.draw);
      if (can_resize_on_device(row.region.height, row.region.width, options_.image_size)) {
        row.file.assign(stored.bytes.begin(), stored.bytes.end());
        return;
      }
    }
    reader_.naming(sample, activity, [&] { transform_.apply(stored, epoch, row.draw, buffers); });
    send(buffers.a, pixels);
  });
}

/// From the sample that the device refused on: the CPU's decoder says what is wrong with it, if anything is.
void DeviceRows::make_on_cpu(DeviceRow& row, std::int64_t epoch, at::Tensor pixels, Activity& activity,
                             ImageBuffers& buffers) {
  row.sample = row.candidates.find([&](std::int64_t sample) {
    const StoredImage stored = reader_.read(sample, buffers, activity);
    reader_.naming(sample, activity, [&] { transform_.apply(stored, epoch, row.draw, buffers); });
  });
  send(buffers.a, pixels);
}

void DeviceRows::send(const Image& image, at::Tensor pixels) {
  const at::Tensor staged = inputs_.take_pixels(pixels.sizes());
  std::memcpy(staged.mutable_data_ptr(), image.pixels.data(), staged.nbytes());
  pixels.copy_(staged, /*non_blocking=*/true);
}

}  // namespace cosub::data
