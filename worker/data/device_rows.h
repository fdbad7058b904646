// The rows of a microbatch where a device decodes: the loader's thread reads the files and draws what the CPU
// path draws, the device decodes each crop and resizes and flips it into its row. What the device's decoder
// does not take (PNG, progressive or CMYK JPEGs, a damaged file) goes the CPU path's way, which also says
// which samples are bad and why.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "worker/data/candidates.h"
#include "worker/data/device_decoder.h"
#include "worker/data/inputs.h"
#include "worker/data/loader.h"
#include "worker/data/picture_reader.h"
#include "worker/data/transform.h"

namespace cosub::data {

/// A decoder with the stream that all its work is on (none on a CPU).
struct DecoderOnStream {
  std::optional<c10::Stream> stream;
  std::unique_ptr<DeviceDecoder> decoder;
};

/// As many decoders as there are threads that decode at the same time. Thread-safe.
class DecoderPool {
 public:
  /// `make`: null where the CPU decodes.
  DecoderPool(MakeDeviceDecoder make, at::Device device);
  bool decodes() const { return make_ != nullptr; }
  DecoderOnStream take();
  /// Not given back after an exception: its state is unknown then, and the run ends.
  void give_back(DecoderOnStream decoder);

 private:
  const MakeDeviceDecoder make_;
  const at::Device device_;
  std::mutex mutex_;
  std::vector<DecoderOnStream> idle_;
};

/// One row on its way.
struct DeviceRow {
  DeviceRow(const Candidates& candidates_in, std::int64_t draw_in)
      : candidates(candidates_in), draw(draw_in) {}
  Candidates candidates;
  std::int64_t draw;
  std::int64_t sample = 0;  // that fills it
  ByteBuffer file;          // what the device is to decode; empty: the row is made
  Region region;            // of its picture
};

/// Fills the rows of one microbatch, on the current stream of the device. One thread's.
class DeviceRows {
 public:
  DeviceRows(const Source& source, const TrainLoader::Options& options, const PictureReader& reader,
             const TrainTransform& transform, DeviceInputs& inputs)
      : source_(source), options_(options), reader_(reader), transform_(transform), inputs_(inputs) {}

  /// -> [rows, S, S, C] uint8 on the device. Errors as make_train_microbatch; IoError when the device fails.
  at::Tensor make(std::span<DeviceRow> rows, std::int64_t epoch, DeviceDecoder& decoder, Activity& activity,
                  ImageBuffers& buffers);

 private:
  void start(DeviceRow& row, std::int64_t epoch, at::Tensor pixels, Activity& activity,
             ImageBuffers& buffers);
  void make_on_cpu(DeviceRow& row, std::int64_t epoch, at::Tensor pixels, Activity& activity,
                   ImageBuffers& buffers);
  void send(const Image& image, at::Tensor pixels);

  const Source& source_;
  const TrainLoader::Options& options_;
  const PictureReader& reader_;
  const TrainTransform& transform_;
  DeviceInputs& inputs_;
};

}  // namespace cosub::data
