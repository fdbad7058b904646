#include "worker/data/inputs.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

namespace cosub::data {
namespace {

void mix_inputs(const Mix& mix, at::Tensor& images) {
  if (mix.kind == Mix::Kind::kMixup) {
    const auto own = static_cast<float>(mix.lambda), other = static_cast<float>(1.0 - mix.lambda);
    images = images.mul(own).add_(images.flip(0).mul_(other));
  } else if (mix.kind == Mix::Kind::kCutmix) {
    const at::Tensor pasted = images.slice(2, mix.top, mix.bottom).slice(3, mix.left, mix.right);
    pasted.copy_(pasted.flip(0));
  }
}

at::Tensor per_channel(const std::vector<double>& values, std::int64_t channels, at::Device device) {
  const std::vector<double> given = values.empty() ? std::vector<double>(channels, 0.5) : values;
  return at::tensor(given, at::kFloat).view({1, channels, 1, 1}).to(device);
}

}  // namespace

ErasedPatch make_patch(const ErasedBox& box, EraseMode mode, std::int64_t channels, std::int64_t row) {
  const std::int64_t height = box.region.height, width = box.region.width;
  ErasedPatch patch{row, box.region, at::empty({channels, height, width}, at::kFloat)};
  const std::span<float> values(patch.values.mutable_data_ptr<float>(), channels * height * width);
  erase({{0, 0, height, width}, box.noise}, mode, channels, height, width, values);
  return patch;
}

at::Tensor make_inputs(const PixelRows& rows, const at::Tensor& mean, const at::Tensor& std) {
  at::Tensor images = rows.pixels.permute({0, 3, 1, 2})
                          .to(at::kFloat, /*non_blocking=*/false,
                              /*copy=*/true, at::MemoryFormat::Contiguous);
  images.div_(255).sub_(mean).div_(std);
  for (const ErasedPatch& patch : rows.erased) {
    const Region& region = patch.region;
    images.select(0, patch.row)
        .slice(1, region.top, region.top + region.height)
        .slice(2, region.left, region.left + region.width)
        .copy_(patch.values, /*non_blocking=*/true);
  }
  mix_inputs(rows.mix, images);
  return images;
}

DeviceInputs::DeviceInputs(at::Device device, const config::DataConfig& data, std::int64_t channels)
    : device_(device),
      mean_(per_channel(data.mean, channels, device)),
      std_(per_channel(data.std, channels, device)) {
  if (!device.is_cpu()) {
    copy_stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
  }
}

at::Tensor DeviceInputs::take_pixels(at::IntArrayRef shape) {
  if (!copy_stream_) return pool_.take(shape, at::kByte);
  // LibTorch's allocator of pinned memory gives a block out again when the copies from it are done.
  return at::empty(shape, at::TensorOptions(at::kByte).pinned_memory(true));
}

void DeviceInputs::send(PixelRows& rows) {
  if (!copy_stream_) return;
  const c10::Stream stream =
      rows.pixels.is_cpu() ? *copy_stream_ : c10::impl::VirtualGuardImpl(device_.type()).getStream(device_);
  const c10::StreamGuard on_stream(stream);
  rows.pixels = rows.pixels.to(device_, /*non_blocking=*/true);
  for (ErasedPatch& patch : rows.erased) {
    patch.values = patch.values.pin_memory().to(device_, /*non_blocking=*/true);
  }
  rows.copied = std::make_unique<c10::Event>(device_.type());
  rows.copied->record(stream);
}

at::Tensor DeviceInputs::receive(PixelRows rows) {
  if (copy_stream_) {
    const c10::Stream current = c10::impl::VirtualGuardImpl(device_.type()).getStream(device_);
    rows.copied->block(current);
    // They were allocated on another stream: their memory is free again when this stream is through with it.
    rows.pixels.record_stream(current);
    for (const ErasedPatch& patch : rows.erased) patch.values.record_stream(current);
  }
  return make_inputs(rows, mean_, std_);
}

}  // namespace cosub::data
