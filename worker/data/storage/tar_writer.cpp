#include "worker/data/storage/tar_writer.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <new>

#include "common/atomic_file.h"

namespace cosub::data {
namespace {

constexpr int kBlockBytes = 1 << 20;  // of one write(2)

}  // namespace

void TarWriter::Free::operator()(archive* writer) const {
  archive_write_free(writer);
}
void TarWriter::Free::operator()(archive_entry* entry) const {
  archive_entry_free(entry);
}

TarWriter::TarWriter(const std::filesystem::path& temporary)
    : temporary_(temporary),
      file_(open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, "create")),
      archive_(archive_write_new()),
      entry_(archive_entry_new()) {
  if (!archive_ || !entry_) throw std::bad_alloc();
  check(archive_write_set_format_ustar(archive_.get()));
  check(archive_write_set_bytes_per_block(archive_.get(), kBlockBytes));
  check(archive_write_set_bytes_in_last_block(archive_.get(), 1));
  check(archive_write_open_fd(archive_.get(), file_.get()));
}

TarWriter::~TarWriter() {
  // Freed before its end, the archive tries to write that; it may fail, nobody will read it.
  if (!is_published_) ::unlink(temporary_.c_str());
}

void TarWriter::check(int result) const {
  if (result == ARCHIVE_OK) return;
  const int error = archive_errno(archive_.get());
  if (error > 0) throw io_error("write", temporary_, error);
  throw IoError(
      fmt::format("cannot write {}: {}", temporary_.string(), archive_error_string(archive_.get())));
}

void TarWriter::add(const std::string& name, std::span<const std::uint8_t> bytes) {
  archive_entry* entry = archive_entry_clear(entry_.get());
  archive_entry_set_pathname(entry, name.c_str());
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_entry_set_perm(entry, 0644);
  archive_entry_set_mtime(entry, 0, 0);
  archive_entry_set_size(entry, static_cast<la_int64_t>(bytes.size()));
  check(archive_write_header(archive_.get(), entry));
  if (bytes.empty()) return;
  const la_ssize_t written = archive_write_data(archive_.get(), bytes.data(), bytes.size());
  if (written != static_cast<la_ssize_t>(bytes.size())) check(ARCHIVE_FATAL);
}

std::uint64_t TarWriter::finish() {
  check(archive_write_close(archive_.get()));
  fsync_file(file_, temporary_);
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) throw io_error("write", temporary_, errno);
  return static_cast<std::uint64_t>(status.st_size);
}

void TarWriter::publish(const std::filesystem::path& path) {
  replace_file(temporary_, path);
  is_published_ = true;
}

}  // namespace cosub::data
