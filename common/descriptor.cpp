#include "common/descriptor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "common/atomic_file.h"

namespace cosub {
namespace {

std::string remedy(const std::filesystem::path& path, int error_number) {
  const std::string folder = path.has_parent_path() ? path.parent_path().string() : ".";
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return fmt::format("; free space on the file system of {} or choose another folder", folder);
    case EACCES:
    case EPERM:
    case EROFS:
      return fmt::format(
          "; check owner and permissions (this process runs as user {}) or choose another folder", geteuid());
    case EMFILE:
      return "; raise the limit of open files (ulimit -n)";
    default:
      return "";
  }
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Descriptor::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

IoError io_error(const std::string& action, const std::filesystem::path& path, int error_number) {
  return IoError(fmt::format("cannot {} {}: {}{}", action, path.string(),
                             std::generic_category().message(error_number), remedy(path, error_number)),
                 error_number);
}

Descriptor open_file(const std::filesystem::path& path, int flags, const std::string& action, int mode) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) throw io_error(action, path, errno);
  return Descriptor(fd);
}

void write_all(const Descriptor& file, std::span<const std::byte> bytes, const std::filesystem::path& path) {
  constexpr std::size_t kMaxBytes = std::size_t{1} << 30;  // Linux writes at most 2 GiB at once
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), std::min(bytes.size(), kMaxBytes));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw io_error("write", path, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

std::size_t read_at(const Descriptor& file, std::span<std::byte> bytes, std::uint64_t offset,
                    const std::filesystem::path& path) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got =
        ::pread(file.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw io_error("read", path, errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

void fsync_file(const Descriptor& file, const std::filesystem::path& path) {
  int result = -1;
  do {
    result = ::fsync(file.get());
  } while (result != 0 && errno == EINTR);
  if (result != 0) throw io_error("fsync", path, errno);
}

void create_file(const std::filesystem::path& path, int mode,
                 const std::function<void(const Descriptor&)>& fill) {
  const Descriptor file = open_file(path, O_WRONLY | O_CREAT | O_EXCL, "create", mode);
  try {
    fill(file);
    fsync_file(file, path);
    fsync_path(path.has_parent_path() ? path.parent_path() : ".");
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

}  // namespace cosub
