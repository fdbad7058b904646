// The module cosub_nvjpeg: DeviceDecoder over nvJPEG, loaded by nvjpeg_decoders. Each thread has its own
// decoder; they share the library's handle, the one type of nvJPEG that is thread-safe. The host undoes the
// Huffman code of one file while the GPU transforms the blocks of the one before, of the wanted region only.
// The phases of one image after the other rather than nvJPEG's batches: those have one status for all.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nvjpeg.h>
#include <spdlog/spdlog.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <source_location>
#include <thread>
#include <utility>

#include "common/error.h"
#include "worker/data/image/decode.h"
#include "worker/data/nvjpeg_module.h"

namespace cosub::data {
namespace {

/// For the GPU to decode one picture, however busy it is with training: a hang is an error.
constexpr std::chrono::seconds kLimit{60};
constexpr std::chrono::microseconds kPause{20};

void check_nvjpeg(nvjpegStatus_t status, const char* operation,
                  std::source_location where = std::source_location::current()) {
  if (status == NVJPEG_STATUS_SUCCESS) return;
  throw IoError(
      fmt::format("nvJPEG failed to {}: status {} of nvjpeg.h ({}:{}); data.decode: cpu does without",
                  operation, static_cast<int>(status), where.file_name(), where.line()));
}

void check_cuda(cudaError_t status, const char* operation,
                std::source_location where = std::source_location::current()) {
  if (status == cudaSuccess) return;
  throw IoError(fmt::format("CUDA failed to {}: {} ({}:{})", operation, cudaGetErrorString(status),
                            where.file_name(), where.line()));
}

/// Whether the status is about this file; an error where it is about the GPU or the library.
bool refuses_file(nvjpegStatus_t status, const char* operation,
                  std::source_location where = std::source_location::current()) {
  switch (status) {
    case NVJPEG_STATUS_BAD_JPEG:
    case NVJPEG_STATUS_JPEG_NOT_SUPPORTED:
    case NVJPEG_STATUS_IMPLEMENTATION_NOT_SUPPORTED:
    case NVJPEG_STATUS_INCOMPLETE_BITSTREAM:
    case NVJPEG_STATUS_INVALID_PARAMETER:
    case NVJPEG_STATUS_INTERNAL_ERROR: {
      static std::atomic_flag told;
      if (!told.test_and_set()) {
        spdlog::warn(
            "nvJPEG does not take a file (status {} as it should {}); such files are decoded on the CPU",
            static_cast<int>(status), operation);
      }
      return true;
    }
    default:
      check_nvjpeg(status, operation, where);
      return false;
  }
}

/// Owns one of nvJPEG's handles.
template <auto Destroy>
struct Destroyer {
  template <class T>
  void operator()(T* handle) const {
    (void)Destroy(handle);  // nothing is left to do about a failure
  }
};
template <class T, auto Destroy>
using Handle = std::unique_ptr<T, Destroyer<Destroy>>;

/// Calls `create(..., &raw)`.
template <class Owner, class Create>
Owner created(const char* operation, Create&& create) {
  typename Owner::pointer raw = nullptr;
  check_nvjpeg(create(&raw), operation);
  return Owner(raw);
}

using Library = Handle<nvjpegHandle, nvjpegDestroy>;

/// What one file needs until the GPU has taken it over.
struct Slot {
  explicit Slot(nvjpegHandle_t library)
      : file(created<decltype(file)>("parse",
                                     [&](auto* raw) { return nvjpegJpegStreamCreate(library, raw); })),
        pinned(created<decltype(pinned)>("get pinned memory", [&](auto* raw) {
          return nvjpegBufferPinnedCreate(library, nullptr, raw);
        })) {}
  Handle<nvjpegJpegStream, nvjpegJpegStreamDestroy> file;
  Handle<nvjpegBufferPinned, nvjpegBufferPinnedDestroy> pinned;
};

/// One thread's handles. Freed in reverse: the state before the buffers that are attached to it.
struct Workplace {
  explicit Workplace(std::shared_ptr<nvjpegHandle> library_in)
      : library(std::move(library_in)),
        slots{Slot(library.get()), Slot(library.get())},
        device_memory(created<decltype(device_memory)>(
            "get memory", [&](auto* raw) { return nvjpegBufferDeviceCreate(library.get(), nullptr, raw); })),
        params(created<decltype(params)>(
            "set up", [&](auto* raw) { return nvjpegDecodeParamsCreate(library.get(), raw); })),
        // Hybrid: the host's Huffman decoder. The GPU's pays for pictures of many megapixels only.
        decoder(created<decltype(decoder)>(
            "set up",
            [&](auto* raw) { return nvjpegDecoderCreate(library.get(), NVJPEG_BACKEND_HYBRID, raw); })),
        state(created<decltype(state)>("set up", [&](auto* raw) {
          return nvjpegDecoderStateCreate(library.get(), decoder.get(), raw);
        })) {
    check_nvjpeg(nvjpegStateAttachDeviceBuffer(state.get(), device_memory.get()), "set up");
  }
  std::shared_ptr<nvjpegHandle> library;
  std::array<Slot, 2> slots;
  Handle<nvjpegBufferDevice, nvjpegBufferDeviceDestroy> device_memory;
  Handle<nvjpegDecodeParams, nvjpegDecodeParamsDestroy> params;
  Handle<nvjpegJpegDecoder, nvjpegDecoderDestroy> decoder;
  Handle<nvjpegJpegState, nvjpegJpegStateDestroy> state;
};

class NvjpegDecoder final : public DeviceDecoder {
 public:
  NvjpegDecoder(std::shared_ptr<nvjpegHandle> library, at::Device device)
      : device_(device), work_(std::make_unique<Workplace>(std::move(library))) {}
  ~NvjpegDecoder() override {
    const c10::cuda::CUDAGuard on_device(device_.index());
    work_.reset();
  }

  std::vector<at::Tensor> decode(std::span<const EncodedRegion> files, std::int64_t channels) override {
    const c10::cuda::CUDAGuard on_device(device_.index());
    const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(device_.index()).stream();
    std::vector<at::Tensor> decoded(files.size());
    try {
      for (std::size_t i = 0; i < files.size(); ++i) decoded[i] = decode_one(files[i], channels, stream);
      wait(stream);  // the last transfer still reads the caller's bytes
    } catch (...) {
      // Freeing what the GPU may still use would wait for it, and this run ends anyway.
      (void)work_.release();
      throw;
    }
    return decoded;
  }

 private:
  at::Tensor decode_one(const EncodedRegion& file, std::int64_t channels, cudaStream_t stream);
  bool prepare(const EncodedRegion& file, std::int64_t channels, const Slot& slot) const;
  void wait(cudaStream_t stream) const;

  const at::Device device_;
  std::unique_ptr<Workplace> work_;
  std::size_t slot_ = 0;
};

/// Parses the file into the slot and sets what is wanted of it; false where it is not for this decoder.
bool NvjpegDecoder::prepare(const EncodedRegion& file, std::int64_t channels, const Slot& slot) const {
  if (refuses_file(nvjpegJpegStreamParse(work_->library.get(), file.bytes.data(), file.bytes.size(),
                                         /*save_metadata=*/0, /*save_stream=*/0, slot.file.get()),
                   "parse")) {
    return false;
  }
  unsigned width = 0, height = 0, components = 0;
  check_nvjpeg(nvjpegJpegStreamGetFrameDimensions(slot.file.get(), &width, &height), "parse");
  check_nvjpeg(nvjpegJpegStreamGetComponentsNum(slot.file.get(), &components), "parse");
  const Region& region = file.region;
  // Our parser has seen the same bytes, but a hostile file may show each parser another frame.
  if (std::int64_t{height} * width > kMaxPixels) return false;
  if (region.left + region.width > width || region.top + region.height > height) return false;
  // Grey of a colour picture is defined by way of RGB (decode.h), nvJPEG's is its luma.
  if (components != 1 && (components != 3 || channels == 1)) return false;
  check_nvjpeg(nvjpegDecodeParamsSetOutputFormat(work_->params.get(),
                                                 channels == 1 ? NVJPEG_OUTPUT_Y : NVJPEG_OUTPUT_RGBI),
               "set up");
  check_nvjpeg(nvjpegDecodeParamsSetROI(work_->params.get(), static_cast<int>(region.left),
                                        static_cast<int>(region.top), static_cast<int>(region.width),
                                        static_cast<int>(region.height)),
               "set up");
  int unsupported = 0;  // 0: supported
  return !refuses_file(nvjpegDecoderJpegSupported(work_->decoder.get(), slot.file.get(), work_->params.get(),
                                                  &unsupported),
                       "look at a file") &&
         unsupported == 0;
}

/// Queues the GPU's part on `stream`.
at::Tensor NvjpegDecoder::decode_one(const EncodedRegion& file, std::int64_t channels, cudaStream_t stream) {
  const nvjpegHandle_t library = work_->library.get();
  const nvjpegJpegState_t state = work_->state.get();
  const Slot& slot = work_->slots[slot_];
  if (!prepare(file, channels, slot)) return {};
  check_nvjpeg(nvjpegStateAttachPinnedBuffer(state, slot.pinned.get()), "set up");
  if (refuses_file(
          nvjpegDecodeJpegHost(library, work_->decoder.get(), state, work_->params.get(), slot.file.get()),
          "decode on the host")) {
    return {};
  }
  // The GPU is through with the file before this one: the memory of the state is free, and the other slot.
  wait(stream);
  at::Tensor pixels = at::empty({file.region.height, file.region.width, channels},
                                at::TensorOptions(at::kByte).device(device_));
  nvjpegImage_t destination = {};
  destination.channel[0] = pixels.mutable_data_ptr<std::uint8_t>();
  destination.pitch[0] = static_cast<std::size_t>(file.region.width * channels);
  slot_ = 1 - slot_;
  if (refuses_file(
          nvjpegDecodeJpegTransferToDevice(library, work_->decoder.get(), state, slot.file.get(), stream),
          "go to the GPU") ||
      refuses_file(nvjpegDecodeJpegDevice(library, work_->decoder.get(), state, &destination, stream),
                   "decode on the GPU")) {
    return {};
  }
  return pixels;
}

void NvjpegDecoder::wait(cudaStream_t stream) const {
  const auto end = std::chrono::steady_clock::now() + kLimit;
  while (true) {
    const cudaError_t status = cudaStreamQuery(stream);
    if (status != cudaErrorNotReady) return check_cuda(status, "decode with nvJPEG");
    (void)cudaGetLastError();  // else LibTorch's next launch in this thread would report it
    if (std::chrono::steady_clock::now() > end) {
      throw IoError(fmt::format("GPU {} did not decode a picture in {} s", device_.index(), kLimit.count()));
    }
    std::this_thread::sleep_for(kPause);
  }
}

MakeDeviceDecoder make_decoders(at::Device device) {
  const c10::cuda::CUDAGuard on_device(device.index());
  // Strict: what does not follow the standard to the letter is judged by the CPU's decoder.
  Library made = created<Library>("start", [](nvjpegHandle_t* raw) {
    return nvjpegCreateEx(NVJPEG_BACKEND_DEFAULT, nullptr, nullptr, NVJPEG_FLAGS_BITSTREAM_STRICT, raw);
  });
  const std::shared_ptr<nvjpegHandle> library = std::move(made);
  return [library, device] {
    const c10::cuda::CUDAGuard on_decoders_device(device.index());
    return std::make_unique<NvjpegDecoder>(library, device);
  };
}

}  // namespace

// Called by nvjpeg_decoders through dlsym.
extern "C" __attribute__((visibility("default"))) void cosub_make_nvjpeg_decoders(at::Device device,
                                                                                  MakeDeviceDecoder& made) {
  made = make_decoders(device);
}

}  // namespace cosub::data
