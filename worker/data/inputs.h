// The last part of the way: 8-bit pixels become the model's inputs, normalised, erased and mixed. For a CPU
// the loader's threads do it, while the pixels are in the cache. For a GPU a quarter of the bytes crosses the
// bus: the threads copy pixels from pinned memory on a stream of their own, and the device does the rest. The
// numbers are the same on both ways.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "common/config/pipeline.h"
#include "worker/data/image/random_erasing.h"
#include "worker/data/mix.h"
#include "worker/data/normalize.h"
#include "worker/data/tensor_pool.h"

namespace cosub::data {

/// Part of a row that is overwritten after normalising.
struct ErasedPatch {
  std::int64_t row = 0;
  Region region;
  at::Tensor values;  // [C, height, width] float32
};

/// Rows that are pixels still.
struct PixelRows {
  at::Tensor pixels;  // [B, S, S, C] uint8
  std::vector<ErasedPatch> erased;
  Mix mix;
  std::unique_ptr<c10::Event> copied;  // on a GPU: when they have arrived
};

/// What random erasing writes into a region of a row of `channels` channels, on CPU.
ErasedPatch make_patch(const ErasedBox& box, EraseMode mode, std::int64_t channels, std::int64_t row);

/// On the pixels' device, asynchronously there: -> [B, C, S, S] float32, normalised by `mean` and `std`
/// ([1, C, 1, 1] float32 on that device), patches written, rows mixed.
at::Tensor make_inputs(const PixelRows& rows, const at::Tensor& mean, const at::Tensor& std);

/// Makes inputs on one device. Thread-safe, but for receive(): that is the training thread's.
class DeviceInputs {
 public:
  DeviceInputs(at::Device device, const config::DataConfig& data, std::int64_t channels);
  /// Memory to write pixels into: pinned where they go to a GPU.
  at::Tensor take_pixels(at::IntArrayRef shape);
  /// Starts the copy to the device, without waiting for it. Pixels that are there already belong to the
  /// current stream.
  void send(PixelRows& rows);
  /// Makes the current stream wait for the copy, and computes the inputs there.
  at::Tensor receive(PixelRows rows);

 private:
  at::Device device_;
  at::Tensor mean_, std_;
  std::optional<c10::Stream> copy_stream_;  // on a GPU
  TensorPool pool_;                         // on CPU
};

}  // namespace cosub::data
