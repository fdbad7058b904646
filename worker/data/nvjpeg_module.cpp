#include "worker/data/nvjpeg_module.h"

#include <fmt/format.h>

#include <filesystem>

#include "common/error.h"
#include "common/module.h"

namespace cosub::data {

MakeDeviceDecoder nvjpeg_decoders(at::Device device) {
  const std::filesystem::path path = module_path("cosub_nvjpeg");
  if (!std::filesystem::exists(path)) {
    throw ConfigError(
        fmt::format("data.decode: nvjpeg, but {} is missing: build with CUDA and nvJPEG "
                    "(-DCOSUB_WITH_NVJPEG=ON; PyPI has it as nvidia-nvjpeg), or use data.decode: cpu",
                    path.string()));
  }
  MakeDeviceDecoder made;
  reinterpret_cast<NvjpegFactory>(load_function(path, kNvjpegFactoryName))(device, made);
  return made;
}

}  // namespace cosub::data
