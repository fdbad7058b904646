#include "worker/data/storage/tar.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "common/error.h"

namespace cosub::data {
namespace {

constexpr std::uint64_t kBlockBytes = 512;
constexpr std::uint64_t kMostExtraBytes = 1 << 20;  // of a long name or a pax header
constexpr std::uint64_t kSearchedBytes = 16 << 10;  // for one of these, in front of a header

std::uint64_t in_blocks(std::uint64_t bytes) {
  return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

/// A field of octal digits padded with blanks or zero bytes, or GNU's base 256 (first bit set).
std::optional<std::uint64_t> number_in(std::string_view field) {
  const auto first = static_cast<unsigned char>(field[0]);
  if ((first & 0x80) != 0) {
    std::uint64_t value = first & 0x3f;
    for (const char c : field.substr(1)) {
      if (value >> 55 != 0) return std::nullopt;
      value = value << 8 | static_cast<unsigned char>(c);
    }
    return (first & 0x40) != 0 ? std::nullopt : std::optional(value);
  }
  field.remove_prefix(std::min(field.find_first_not_of(' '), field.size()));
  field = field.substr(0, field.find_first_of(std::string_view(" \0", 2)));
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value, 8);
  if (field.empty()) return 0;
  return error == std::errc() && end == field.data() + field.size() ? std::optional(value) : std::nullopt;
}

std::string_view text_in(std::string_view field) {
  return field.substr(0, field.find('\0'));
}

/// What a pax header says of the member behind it; records are "LENGTH KEY=VALUE\n".
struct PaxHeader {
  std::optional<std::string> path;
  std::optional<std::uint64_t> size;
  bool is_sound = true;
};

PaxHeader parse_pax(std::string_view text) {
  PaxHeader header;
  while (!text.empty()) {
    std::size_t length = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    const auto digits = static_cast<std::size_t>(end - text.data());
    if (error != std::errc() || length > text.size() || length < digits + 3 || *end != ' ' ||
        text[length - 1] != '\n') {
      header.is_sound = false;
      return header;
    }
    const std::string_view record = text.substr(digits + 1, length - digits - 2);
    const std::size_t equals = record.find('=');
    const std::string_view key = record.substr(0, equals);
    if (equals != std::string_view::npos) {
      const std::string_view value = record.substr(equals + 1);
      if (key == "path") header.path = std::string(value);
      if (key == "size") {
        std::uint64_t size = 0;
        const auto parsed = std::from_chars(value.data(), value.data() + value.size(), size);
        header.is_sound &= parsed.ec == std::errc() && parsed.ptr == value.data() + value.size();
        header.size = size;
      }
    }
    text.remove_prefix(length);
  }
  return header;
}

}  // namespace

/// POSIX.1-1988 ustar, offsets in bytes.
struct TarReader::Header {
  char bytes[kBlockBytes];
  std::string_view field(std::size_t at, std::size_t size) const { return {bytes + at, size}; }
  char type() const { return bytes[156]; }
  bool is_regular_file() const { return type() == '0' || type() == '\0' || type() == '7'; }
  /// It and its data belong to the member behind it: a long name or link (GNU), pax records.
  bool is_extra() const { return type() == 'L' || type() == 'K' || type() == 'x' || type() == 'g'; }
  bool is_zero() const {
    return std::all_of(bytes, bytes + kBlockBytes, [](char c) { return c == 0; });
  }
  bool has_sound_checksum() const {
    std::uint64_t sum = 0;
    std::int64_t signed_sum = 0;  // some old writers
    for (std::size_t i = 0; i < kBlockBytes; ++i) {
      const char c = i >= 148 && i < 156 ? ' ' : bytes[i];
      sum += static_cast<unsigned char>(c);
      signed_sum += static_cast<signed char>(c);
    }
    const std::optional<std::uint64_t> stored = number_in(field(148, 8));
    return stored && (*stored == sum || static_cast<std::int64_t>(*stored) == signed_sum);
  }
  std::string name() const {
    const std::string_view prefix = text_in(field(345, 155));
    const bool is_posix =
        field(257, 6) == std::string_view("ustar\0", 6);  // GNU's field holds something else
    std::string name = is_posix && !prefix.empty() ? std::string(prefix) + "/" : "";
    return name += text_in(field(0, 100));
  }
};

TarReader::TarReader(const std::filesystem::path& path)
    : path_(path), file_(open_file(path, O_RDONLY, "read")) {
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) throw io_error("read", path, errno);
  if (!S_ISREG(status.st_mode))
    throw DataError(fmt::format("{}: no regular file; a tar file is expected", path.string()));
  file_size_ = static_cast<std::uint64_t>(status.st_size);
  unsigned char magic[4] = {};
  if (file_size_ < kBlockBytes)
    throw DataError(fmt::format("{}: {} bytes are no tar file", path.string(), file_size_));
  read_exactly(magic, sizeof magic, 0);
  const bool is_compressed = (magic[0] == 0x1f && magic[1] == 0x8b) || std::memcmp(magic, "BZh", 3) == 0 ||
                             std::memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0 ||
                             std::memcmp(magic,
                                         "\xfd"
                                         "7zX",
                                         4) == 0;
  if (is_compressed) {
    throw DataError(
        fmt::format("{}: compressed; samples are read out of the middle of a shard, so it must be a plain "
                    "tar file: unpack it with gunzip, bunzip2, unzstd or unxz (images hardly shrink anyway)",
                    path.string()));
  }
}

void TarReader::read_exactly(void* out, std::size_t bytes, std::uint64_t offset) const {
  const std::size_t done = read_at(file_, {static_cast<std::byte*>(out), bytes}, offset, path_);
  if (done == bytes) return;
  throw DataError(fmt::format("{}: ends at byte {}, though it had {} when it was opened", path_.string(),
                              offset + done, file_size_));
}

void TarReader::refuse(const std::string& what) const {
  throw DataError(fmt::format("{}: byte {}: {}; the file is damaged or no tar file: copy or pack it again",
                              path_.string(), at_, what));
}

bool TarReader::read_header(Header& header) {
  if (at_ == file_size_) return false;  // without the two zero blocks: other readers take that as well
  if (file_size_ - at_ < kBlockBytes) refuse("ends inside a header");
  read_exactly(header.bytes, kBlockBytes, at_);
  if (header.is_zero()) return false;
  if (!header.has_sound_checksum()) refuse("a header with a wrong checksum");
  return true;
}

bool TarReader::next(TarMember& member) {
  std::optional<std::string> long_name;
  PaxHeader pax;
  Header header;
  while (read_header(header)) {
    const std::optional<std::uint64_t> stored = number_in(header.field(124, 12));
    const bool is_extra = header.is_extra();
    if (!stored) refuse("a header without a size");
    const std::uint64_t size = is_extra ? *stored : pax.size.value_or(*stored);
    const std::uint64_t data = at_ + kBlockBytes;
    if (size > file_size_ - data) {
      refuse(fmt::format("member '{}' of {} bytes reaches beyond the end of the file ({} bytes)",
                         long_name.value_or(pax.path.value_or(header.name())), size, file_size_));
    }
    if (is_extra) {
      if (size > kMostExtraBytes) refuse(fmt::format("a name or pax header of {} bytes", size));
      std::string text(size, '\0');
      read_exactly(text.data(), text.size(), data);
      if (header.type() == 'L') long_name = std::string(text_in(text));
      if (header.type() == 'x') pax = parse_pax(text);
      if (!pax.is_sound) refuse("a pax header that cannot be read");
    }
    // The last member's padding may be missing.
    at_ = std::min(file_size_, data + in_blocks(size));
    if (is_extra) continue;
    if (header.is_regular_file()) {
      member = {long_name ? *long_name : pax.path ? *pax.path : header.name(), data, size};
      return true;
    }
    long_name.reset();  // it was a folder's or a link's
    pax = {};
  }
  return false;
}

/// What the header says, where it says all: unless a long name or a pax header stands near in front of it.
std::optional<std::string> TarReader::name_in_header_before(std::uint64_t offset) const {
  if (offset < kBlockBytes || offset > file_size_) return std::nullopt;
  const std::size_t bytes = std::min(offset, kSearchedBytes + kBlockBytes) / kBlockBytes * kBlockBytes;
  std::vector<Header> blocks(bytes / kBlockBytes);
  read_exactly(blocks.data(), bytes, offset - bytes);
  const Header& own = blocks.back();
  if (!own.has_sound_checksum() || !own.is_regular_file()) return std::nullopt;
  // Whichever it belongs to: what lies between may only look like a header.
  for (const Header& before : blocks)
    if (before.has_sound_checksum() && before.is_extra()) return std::nullopt;
  return own.name();
}

std::string TarReader::name_at(const std::filesystem::path& path, std::uint64_t offset) {
  TarReader tar(path);
  if (std::optional<std::string> name = tar.name_in_header_before(offset)) return *name;
  for (TarMember member; tar.next(member) && member.offset <= offset;) {
    if (member.offset == offset) return member.name;
  }
  return "";
}

std::string TarReader::read(const TarMember& member, std::size_t limit) const {
  std::string text(std::min<std::uint64_t>(member.size, limit), '\0');
  read_exactly(text.data(), text.size(), member.offset);
  return text;
}

}  // namespace cosub::data
