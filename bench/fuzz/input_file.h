// A fuzzer's input as a file that can be opened by a path. One file for all inputs.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "bench/fuzz/promise.h"

namespace cosub::fuzz {

inline std::filesystem::path file_with(const std::uint8_t* data, std::size_t size) {
  static const int file = ::memfd_create("fuzz", MFD_CLOEXEC);
  const bool written =
      file >= 0 && ::ftruncate(file, 0) == 0 && ::pwrite(file, data, size, 0) == static_cast<ssize_t>(size);
  if (!written) throw std::runtime_error("cannot fill a memfd");
  return "/proc/self/fd/" + std::to_string(file);
}

}  // namespace cosub::fuzz
