#include "worker/collective/nccl_module.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "common/error.h"
#include "common/module.h"

namespace cosub::collective {
namespace {

// Why this host has no GPU for us; "" when it has one.
std::string why_no_gpu() {
  constexpr const char* kDevice = "/dev/nvidiactl";
  if (access(kDevice, R_OK | W_OK) != 0) return fmt::format("{} is not there or not open to us", kDevice);
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return fmt::format("the driver's library does not load: {}", dlerror());
  dlclose(driver);
  return "";
}

}  // namespace

bool gpu_present() {
  return why_no_gpu().empty();
}

std::unique_ptr<Communicator> connect_nccl(Communicator& bootstrap) {
  const auto reason = why_no_gpu();
  if (!reason.empty()) {
    throw IoError(
        fmt::format("no GPU on the host of rank {}: {}. Use device: cpu, or a host with an NVIDIA driver",
                    bootstrap.rank(), reason));
  }
  const std::filesystem::path path = module_path("cosub_nccl");
  if (!std::filesystem::exists(path)) {
    throw IoError(fmt::format(
        "{} is missing: build with CUDA and NCCL (-DCOSUB_WITH_CUDA=ON), or use device: cpu", path.string()));
  }
  std::unique_ptr<Communicator> made;
  reinterpret_cast<NcclFactory>(load_function(path, kNcclFactoryName))(bootstrap, made);
  return made;
}

}  // namespace cosub::collective
