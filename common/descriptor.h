// An owned file descriptor, and how a refused system call becomes an IoError. For the units of common that
// talk to the operating system directly; others use atomic_file.h and process.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include "common/error.h"

namespace cosub {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept;

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void reset();  // closes; an error of close(2) is not reported, so fsync first where it matters

 private:
  int fd_ = -1;
};

/// "cannot ACTION PATH: No space left on device; free space ..." with the remedy where there is one.
IoError io_error(const std::string& action, const std::filesystem::path& path, int error_number);

/// open(2) with O_CLOEXEC; IoError naming `action` ("read", "write", ...) and path.
Descriptor open_file(const std::filesystem::path& path, int flags, const std::string& action,
                     int mode = 0644);

/// All of `bytes`, through interruptions and short writes.
void write_all(const Descriptor& file, std::span<const std::byte> bytes, const std::filesystem::path& path);

/// Fills `bytes` from that place of the file on, through interruptions; how many there were before its end.
std::size_t read_at(const Descriptor& file, std::span<std::byte> bytes, std::uint64_t offset,
                    const std::filesystem::path& path);

void fsync_file(const Descriptor& file, const std::filesystem::path& path);

/// Creates `path`, which must not exist, lets `fill` write to it, and fsyncs it and its folder. What was
/// begun is removed again when anything fails.
void create_file(const std::filesystem::path& path, int mode,
                 const std::function<void(const Descriptor&)>& fill);

/// rename_new (without its fsync) for file systems without RENAME_NOREPLACE, as NFS. A folder cannot be
/// linked, but rename(2) never replaces a folder that holds anything, and losing an empty one loses nothing.
bool rename_new_by_link(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace cosub
