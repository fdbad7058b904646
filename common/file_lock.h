// A lock on a file that names its holder: one process at a time, released however that ends.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

#include "common/descriptor.h"

namespace cosub {

class FileLock {
 public:
  /// flock(2) on `file`, which is created where it is missing and then holds "PID HOST". nullopt when another
  /// open of it (also of this process) keeps the lock for all of `patience`. Its holder may remove the file.
  /// IoError.
  static std::optional<FileLock> try_lock(const std::filesystem::path& file,
                                          std::chrono::milliseconds patience, int mode = 0644);

  /// "process PID on HOST" of the one that holds or held it last; "another process" where the file does not
  /// say.
  static std::string holder_of(const std::filesystem::path& file);

 private:
  explicit FileLock(Descriptor file) : file_(std::move(file)) {}
  Descriptor file_;
};

}  // namespace cosub
