#include "worker/kernels/kernels.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <atomic>
#include <filesystem>

#include "common/error.h"
#include "common/process.h"

namespace cosub::kernels {
namespace {

std::atomic<const Kernels*> loaded = nullptr;

}  // namespace

bool load_kernels() {
  const auto path = (executable_folder() / ".." / "lib" / "libcosub_kernels.so").lexically_normal();
  if (!std::filesystem::exists(path)) return false;
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) throw IoError(fmt::format("cannot load the module of CUDA kernels: {}", dlerror()));
  const auto table = reinterpret_cast<TableFunction>(dlsym(module, kTableName));
  if (table == nullptr)
    throw IoError(fmt::format("{} is not our module of CUDA kernels: {}", path.string(), dlerror()));
  set_kernels(table());
  return true;
}

const Kernels* loaded_kernels() {
  return loaded.load(std::memory_order_acquire);
}

void set_kernels(const Kernels* kernels) {
  loaded.store(kernels, std::memory_order_release);
}

}  // namespace cosub::kernels
