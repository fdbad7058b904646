#include "worker/data/nvjpeg_module.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>

#include "common/error.h"
#include "common/process.h"

namespace cosub::data {

MakeDeviceDecoder nvjpeg_decoders(at::Device device) {
  const auto path = (executable_folder() / ".." / "lib" / "libcosub_nvjpeg.so").lexically_normal();
  if (!std::filesystem::exists(path)) {
    throw ConfigError(
        fmt::format("data.decode: nvjpeg, but {} is missing: build with CUDA and nvJPEG "
                    "(-DCOSUB_WITH_NVJPEG=ON; PyPI has it as nvidia-nvjpeg), or use data.decode: cpu",
                    path.string()));
  }
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) throw IoError(fmt::format("cannot load the nvJPEG module: {}", dlerror()));
  const auto make = reinterpret_cast<NvjpegFactory>(dlsym(module, kNvjpegFactoryName));
  if (make == nullptr)
    throw IoError(fmt::format("{} is not our nvJPEG module: {}", path.string(), dlerror()));
  MakeDeviceDecoder made;
  make(device, made);
  return made;
}

}  // namespace cosub::data
