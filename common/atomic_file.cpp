#include "common/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <functional>
#include <memory>

#include "common/descriptor.h"
#include "common/process.h"

namespace cosub {
namespace {

namespace fs = std::filesystem;

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

void for_each_chunk(const fs::path& path, const std::function<void(std::span<const std::byte>)>& visit) {
  const Descriptor file = open_file(path, O_RDONLY, "read");
  std::vector<std::byte> buffer(std::size_t{1} << 16);
  for (;;) {
    const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw io_error("read", path, errno);
    if (count == 0) return;
    visit(std::span(buffer).first(static_cast<std::size_t>(count)));
  }
}

bool same_file(const fs::path& a, const fs::path& b) {
  struct stat left {
  }, right{};
  return ::stat(a.c_str(), &left) == 0 && ::stat(b.c_str(), &right) == 0 && left.st_dev == right.st_dev &&
         left.st_ino == right.st_ino;
}

/// The pid in NAME.tmp.HOST.PID.RANDOM when HOST is this one; 0 otherwise.
pid_t writer_of_temporary(const std::string& name) {
  const std::string marker = ".tmp." + host_name() + ".";
  const std::size_t at = name.rfind(marker);
  if (at == std::string::npos) return 0;
  pid_t pid = 0;
  const char* begin = name.data() + at + marker.size();
  const auto [end, error] = std::from_chars(begin, name.data() + name.size(), pid);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' ? pid : 0;
}

}  // namespace

fs::path temporary_beside(const fs::path& path) {
  return path.string() + fmt::format(".tmp.{}.{}.{}", host_name(), getpid(), new_uuid().substr(0, 8));
}

void replace_file(const fs::path& from, const fs::path& path) {
  if (::rename(from.c_str(), path.c_str()) != 0) throw io_error("replace", path, errno);
  fsync_path(parent_of(path));
}

void write_file_atomically(const fs::path& path, std::string_view content, int mode) {
  const fs::path temporary = temporary_beside(path);
  try {
    const Descriptor file = open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, "create", mode);
    write_all(file, bytes_of(content), temporary);
    fsync_file(file, temporary);
    replace_file(temporary, path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void write_new_file(const fs::path& path, std::span<const std::byte> content, int mode) {
  create_file(path, mode, [&](const Descriptor& file) { write_all(file, content, path); });
}

void fsync_path(const fs::path& path) {
  const Descriptor file = open_file(path, O_RDONLY, "open");
  if (::fsync(file.get()) == 0) return;
  const int error = errno;
  // Some network file systems cannot sync a folder and say so with EINVAL; their renames are synchronous
  // anyway.
  if (error == EINVAL && fs::is_directory(path)) return;
  throw io_error("fsync", path, error);
}

std::string read_file(const fs::path& path) {
  std::string content;
  for_each_chunk(path, [&](std::span<const std::byte> chunk) {
    content.append(reinterpret_cast<const char*>(chunk.data()), chunk.size());
  });
  return content;
}

std::optional<std::string> read_file_if_there(const fs::path& path) {
  try {
    return read_file(path);
  } catch (const IoError& error) {
    if (error.error_number() == ENOENT) return std::nullopt;
    throw;
  }
}

bool rename_new_by_link(const fs::path& from, const fs::path& to) {
  struct stat status {};
  if (::lstat(from.c_str(), &status) != 0) throw io_error("rename", from, errno);
  if (!S_ISDIR(status.st_mode)) {
    if (!link_new(from, to)) return false;
    if (::unlink(from.c_str()) != 0) throw io_error("remove", from, errno);
    return true;
  }
  struct stat target {};
  if (::lstat(to.c_str(), &target) == 0) return false;
  if (::rename(from.c_str(), to.c_str()) == 0) return true;
  if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) return false;
  throw io_error(fmt::format("rename {} to", from.string()), to, errno);
}

bool rename_new(const fs::path& from, const fs::path& to) {
  bool renamed = true;
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno == EEXIST) return false;
    if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP)
      throw io_error(fmt::format("rename {} to", from.string()), to, errno);
    renamed = rename_new_by_link(from, to);
  }
  if (renamed) fsync_path(parent_of(to));
  return renamed;
}

bool link_new(const fs::path& from, const fs::path& to) {
  if (::link(from.c_str(), to.c_str()) != 0) {
    if (errno != EEXIST) throw io_error(fmt::format("link {} to", from.string()), to, errno);
    if (!same_file(from, to)) return false;
  }
  fsync_path(parent_of(to));
  return true;
}

std::string sha256_file(const fs::path& path) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  bool fine = context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  for_each_chunk(path, [&](std::span<const std::byte> chunk) {
    fine = fine && EVP_DigestUpdate(context.get(), chunk.data(), chunk.size()) == 1;
  });
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  fine = fine && EVP_DigestFinal_ex(context.get(), digest.data(), &size) == 1;
  if (!fine) throw Error("OpenSSL cannot compute SHA-256 here");
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

std::string xxh3_hex(std::span<const std::byte> bytes) {
  return fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()));
}

std::string xxh3_file(const fs::path& path) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  if (state == nullptr) throw std::bad_alloc();
  XXH3_64bits_reset(state.get());
  for_each_chunk(path, [&](std::span<const std::byte> chunk) {
    XXH3_64bits_update(state.get(), chunk.data(), chunk.size());
  });
  return fmt::format("{:016x}", XXH3_64bits_digest(state.get()));
}

std::uint64_t free_bytes(const fs::path& path) {
  fs::path existing = fs::absolute(path);
  struct statvfs status {};
  while (::statvfs(existing.c_str(), &status) != 0) {
    if (errno != ENOENT || !existing.has_relative_path())
      throw io_error("look at the file system of", path, errno);
    existing = existing.parent_path();
  }
  return static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
}

void remove_stale_temporaries(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const pid_t writer = writer_of_temporary(entry->path().filename().string());
    if (writer <= 0 || start_time_of(writer)) continue;
    if (::unlink(entry->path().c_str()) != 0 && errno != ENOENT)
      throw io_error("remove", entry->path(), errno);
  }
  if (error && error != std::errc::no_such_file_or_directory) throw io_error("list", folder, error.value());
}

}  // namespace cosub
