// Decoding on the device that trains: nvJPEG on a GPU (nvjpeg_decoder.cpp), and for tests our own decoder
// behind the same interface (host_decoder.h). One decoder serves one thread at a time.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "worker/data/image/image.h"

namespace cosub::data {

struct EncodedRegion {
  std::span<const std::uint8_t> bytes;  // a file that is_plain_jpeg (decode.h)
  Region region;                        // inside the picture
};

class DeviceDecoder {
 public:
  virtual ~DeviceDecoder() = default;
  DeviceDecoder() = default;
  DeviceDecoder(const DeviceDecoder&) = delete;
  DeviceDecoder& operator=(const DeviceDecoder&) = delete;

  /// Each region's pixels as [height, width, channels] uint8 on the device, allocated and there on its
  /// current stream, which must be the same in all calls; undefined for a file that this decoder does not
  /// take, whatever the reason: one does not concern the others. Blocks until the bytes are no longer
  /// needed. IoError when the device fails.
  virtual std::vector<at::Tensor> decode(std::span<const EncodedRegion> files, std::int64_t channels) = 0;
};

/// Called once by each thread that decodes.
using MakeDeviceDecoder = std::function<std::unique_ptr<DeviceDecoder>()>;

}  // namespace cosub::data
