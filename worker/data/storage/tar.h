// The members of a plain tar file: ustar, GNU (long names) and pax (path, size), by their headers alone. Our
// own reader because an index needs to know where a member's data lie, which libarchive does not tell for
// formats that put extra headers in front.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "common/descriptor.h"

namespace cosub::data {

struct TarMember {
  std::string name;
  std::uint64_t offset = 0, size = 0;  // of its data, bytes
};

/// Reads a file from its first member to its last. Not thread-safe.
class TarReader {
 public:
  /// IoError when it cannot be opened, DataError when it is compressed or no tar file.
  explicit TarReader(const std::filesystem::path& path);
  std::uint64_t file_size() const { return file_size_; }
  /// The next regular file in it; false at the end. DataError, with the offset, on damage and when data lie
  /// beyond the end of the file.
  bool next(TarMember& member);
  /// The name of the member of a tar file whose data begin at `offset`: read right in front of it, or where a
  /// long name or a pax header stands there, by way of all headers from the first one. Empty when there is no
  /// such member. Errors as the constructor and next().
  static std::string name_at(const std::filesystem::path& path, std::uint64_t offset);
  /// A member's data, at most `limit` bytes of it.
  std::string read(const TarMember& member, std::size_t limit) const;

 private:
  struct Header;
  std::optional<std::string> name_in_header_before(std::uint64_t offset) const;
  bool read_header(Header& header);
  void read_exactly(void* out, std::size_t bytes, std::uint64_t offset) const;
  [[noreturn]] void refuse(const std::string& what) const;

  std::filesystem::path path_;
  Descriptor file_;
  std::uint64_t file_size_ = 0, at_ = 0;
};

}  // namespace cosub::data
