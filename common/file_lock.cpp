#include "common/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <thread>

#include "common/atomic_file.h"
#include "common/process.h"

namespace cosub {
namespace {

bool lock_once(const Descriptor& descriptor, const std::filesystem::path& file) {
  while (flock(descriptor.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) throw io_error("lock", file, errno);
  }
  return true;
}

/// Not where the last holder has removed it.
bool is_at(const std::filesystem::path& file, const Descriptor& descriptor) {
  struct stat opened {
  }, there{};
  if (fstat(descriptor.get(), &opened) != 0) throw io_error("lock", file, errno);
  if (stat(file.c_str(), &there) != 0) return false;
  return opened.st_dev == there.st_dev && opened.st_ino == there.st_ino;
}

}  // namespace

std::optional<FileLock> FileLock::try_lock(const std::filesystem::path& file,
                                           std::chrono::milliseconds patience, int mode) {
  constexpr std::chrono::milliseconds kPause(50);
  Descriptor descriptor = open_file(file, O_RDWR | O_CREAT, "lock", mode);
  for (auto left = patience;;) {
    if (lock_once(descriptor, file)) {
      if (is_at(file, descriptor)) break;
      descriptor = open_file(file, O_RDWR | O_CREAT, "lock", mode);
      continue;
    }
    if (left <= kPause) return std::nullopt;
    std::this_thread::sleep_for(kPause);
    left -= kPause;
  }
  const std::string holder = fmt::format("{} {}\n", getpid(), host_name());
  if (ftruncate(descriptor.get(), 0) != 0) throw io_error("write", file, errno);
  write_all(descriptor, std::as_bytes(std::span(holder)), file);
  return FileLock(std::move(descriptor));
}

std::string FileLock::holder_of(const std::filesystem::path& file) {
  const std::string text = read_file_if_there(file).value_or("");
  const std::size_t space = text.find(' '), end = text.find('\n');
  if (space == std::string::npos || end == std::string::npos || end < space) return "another process";
  return fmt::format("process {} on {}", text.substr(0, space), text.substr(space + 1, end - space - 1));
}

}  // namespace cosub
