// The twin of nvJPEG on the CPU: the same interface over our own decoder, so that everything behind it is
// tested where there is no GPU.
#pragma once

#include "worker/data/device_decoder.h"

namespace cosub::data {

class HostDecoder final : public DeviceDecoder {
 public:
  explicit HostDecoder(at::Device device = at::kCPU) : device_(device) {}
  /// Undefined where decode() of decode.h has a DataError.
  std::vector<at::Tensor> decode(std::span<const EncodedRegion> files, std::int64_t channels) override;

 private:
  at::Device device_;
};

}  // namespace cosub::data
