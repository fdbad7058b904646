#include "tests/worker/checkpoint/file_faults.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <optional>

namespace cosub::testing {
namespace {

std::optional<FileFault> g_fault;
int g_num_failed = 0;
std::int64_t g_kill_before = 0, g_num_calls = 0;

bool is_off() {
  return !g_fault && g_kill_before == 0;
}

std::string path_of(int fd) {
  std::array<char, 4096> buffer{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = ::readlink(link.c_str(), buffer.data(), buffer.size());
  return size < 0 ? "" : std::string(buffer.data(), static_cast<std::size_t>(size));
}

/// True when this call has to fail; errno is set then.
bool fails(const char* call, const std::string& path, bool changes_disk) {
  if (g_kill_before != 0 && changes_disk && ++g_num_calls == g_kill_before) ::kill(::getpid(), SIGKILL);
  if (!g_fault || g_fault->call != call || (path + '$').find(g_fault->path_part) == std::string::npos)
    return false;
  if (g_fault->skip > 0) {
    --g_fault->skip;
    return false;
  }
  if (g_num_failed >= g_fault->times) return false;
  ++g_num_failed;
  if (g_fault->action) g_fault->action();
  errno = g_fault->error_number;
  return g_fault->error_number != 0;
}

}  // namespace

FaultScope::FaultScope(FileFault fault) {
  g_num_failed = 0;
  g_fault = std::move(fault);
}
FaultScope::~FaultScope() {
  g_fault.reset();
}
int FaultScope::num_failed() const {
  return g_num_failed;
}

void kill_before_file_call(std::int64_t n) {
  g_num_calls = 0;
  g_kill_before = n;
}

}  // namespace cosub::testing

// The program's own definitions win over the C library's, for libstdc++'s std::filesystem too.
using cosub::testing::fails;
using cosub::testing::is_off;
using cosub::testing::path_of;

extern "C" {

int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  if (!is_off() && fails("open", path, (flags & O_CREAT) != 0)) return -1;
  return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

ssize_t read(int fd, void* buffer, size_t size) {
  if (!is_off() && fails("read", path_of(fd), false)) return -1;
  return ::syscall(SYS_read, fd, buffer, size);
}

ssize_t pread(int fd, void* buffer, size_t size, off_t offset) {
  if (!is_off() && fails("pread", path_of(fd), false)) return -1;
  return ::syscall(SYS_pread64, fd, buffer, size, offset);
}

ssize_t write(int fd, const void* buffer, size_t size) {
  if (!is_off() && fails("write", path_of(fd), true)) return -1;
  return ::syscall(SYS_write, fd, buffer, size);
}

int fsync(int fd) {
  if (!is_off() && fails("fsync", path_of(fd), true)) return -1;
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

int renameat2(int from_fd, const char* from, int to_fd, const char* to, unsigned flags) noexcept {
  if (!is_off() && fails("renameat2", from, true)) return -1;
  return static_cast<int>(::syscall(SYS_renameat2, from_fd, from, to_fd, to, flags));
}

int mkdir(const char* path, mode_t mode) noexcept {
  if (!is_off() && fails("mkdir", path, true)) return -1;
  return static_cast<int>(::syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

int unlinkat(int fd, const char* path, int flags) noexcept {
  if (!is_off() && fails("unlinkat", path, true)) return -1;
  return static_cast<int>(::syscall(SYS_unlinkat, fd, path, flags));
}

}  // extern "C"
