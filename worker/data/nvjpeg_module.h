// The border between the worker and the module cosub_nvjpeg (lib/libcosub_nvjpeg.so): one C function, found
// by name. Both sides are built together, so C++ types may cross it.
#pragma once

#include "worker/data/device_decoder.h"

namespace cosub::data {

constexpr const char* kNvjpegFactoryName = "cosub_make_nvjpeg_decoders";
using NvjpegFactory = void (*)(at::Device device, MakeDeviceDecoder& made);

/// Decoders on that GPU, by nvJPEG, from the module, which is loaded here for the life of the process.
/// ConfigError when it was not built, IoError when it does not load or the GPU refuses. Call it after
/// LibTorch's CUDA half is loaded (connect_nccl).
MakeDeviceDecoder nvjpeg_decoders(at::Device device);

}  // namespace cosub::data
