#include "common/module.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include "common/error.h"
#include "common/process.h"

namespace cosub {

std::filesystem::path module_path(const std::string& name) {
  return (executable_folder() / ".." / "lib" / fmt::format("lib{}.so", name)).lexically_normal();
}

void* load_function(const std::filesystem::path& module, const char* function) {
  // Never closed: LibTorch's CUDA half registers itself for the life of the process.
  void* handle = dlopen(module.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) throw IoError(fmt::format("cannot load a module of cosub: {}", dlerror()));
  void* found = dlsym(handle, function);
  if (found == nullptr) throw IoError(fmt::format("{} is not of this build: {}", module.string(), dlerror()));
  return found;
}

}  // namespace cosub
