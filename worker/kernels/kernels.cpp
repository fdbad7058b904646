#include "worker/kernels/kernels.h"

#include <atomic>
#include <filesystem>

#include "common/module.h"

namespace cosub::kernels {
namespace {

std::atomic<const Kernels*> loaded = nullptr;

}  // namespace

bool load_kernels() {
  const std::filesystem::path path = module_path("cosub_kernels");
  if (!std::filesystem::exists(path)) return false;
  set_kernels(reinterpret_cast<TableFunction>(load_function(path, kTableName))());
  return true;
}

const Kernels* loaded_kernels() {
  return loaded.load(std::memory_order_acquire);
}

void set_kernels(const Kernels* kernels) {
  loaded.store(kernels, std::memory_order_release);
}

}  // namespace cosub::kernels
