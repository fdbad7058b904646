#include "worker/data/host_decoder.h"

#include <ATen/ops/empty.h>

#include <cstring>

#include "common/error.h"
#include "worker/data/image/decode.h"

namespace cosub::data {
namespace {

at::Tensor to_tensor(const Image& image) {
  at::Tensor pixels = at::empty({image.height, image.width, image.channels}, at::kByte);
  std::memcpy(pixels.mutable_data_ptr(), image.pixels.data(), pixels.nbytes());
  return pixels;
}

}  // namespace

std::vector<at::Tensor> HostDecoder::decode(std::span<const EncodedRegion> files, std::int64_t channels) {
  std::vector<at::Tensor> decoded(files.size());
  Image image;
  for (std::size_t i = 0; i < files.size(); ++i) {
    try {
      data::decode(files[i].bytes, files[i].region, channels, image);
      decoded[i] = to_tensor(image).to(device_);
    } catch (const DataError&) {
      // Undefined: whoever asked decodes it another way, and learns the reason there.
    }
  }
  return decoded;
}

}  // namespace cosub::data
