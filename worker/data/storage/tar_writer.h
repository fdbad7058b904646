// Writes one tar file (ustar), so that the same members give the same bytes: mode 0644, owner and time of
// change 0, no padding behind the two zero blocks at the end. By libarchive.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "common/descriptor.h"

struct archive;
struct archive_entry;

namespace cosub::data {

/// The file grows as a temporary and is gone again when its writer ends without publish(). Used by one thread
/// at a time. Errors are IoError that name the file.
class TarWriter {
 public:
  /// Creates the temporary, which must not exist.
  explicit TarWriter(const std::filesystem::path& temporary);
  ~TarWriter();
  TarWriter(const TarWriter&) = delete;
  TarWriter& operator=(const TarWriter&) = delete;

  /// `name` is ASCII and has at most 100 characters.
  void add(const std::string& name, std::span<const std::uint8_t> bytes);
  /// Ends the archive, fsyncs the file and returns its size in bytes.
  std::uint64_t finish();
  /// After finish(): renames it, over what is there.
  void publish(const std::filesystem::path& path);

 private:
  void check(int result) const;

  struct Free {
    void operator()(archive* writer) const;
    void operator()(archive_entry* entry) const;
  };
  std::filesystem::path temporary_;
  Descriptor file_;
  std::unique_ptr<archive, Free> archive_;
  std::unique_ptr<archive_entry, Free> entry_;
  bool is_published_ = false;
};

}  // namespace cosub::data
