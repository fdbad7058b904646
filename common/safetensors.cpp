#include "common/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "common/descriptor.h"
#include "common/error.h"
#include "common/safetensors_header.h"
#include "common/text.h"

namespace cosub::safetensors {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

struct DTypeRow {
  DType dtype;
  std::string_view name;
  std::size_t size_bytes;
};
constexpr std::array<DTypeRow, 10> kDTypes = {{{DType::kBool, "BOOL", 1},
                                               {DType::kU8, "U8", 1},
                                               {DType::kI8, "I8", 1},
                                               {DType::kI16, "I16", 2},
                                               {DType::kI32, "I32", 4},
                                               {DType::kI64, "I64", 8},
                                               {DType::kF16, "F16", 2},
                                               {DType::kBF16, "BF16", 2},
                                               {DType::kF32, "F32", 4},
                                               {DType::kF64, "F64", 8}}};

const DTypeRow& row_of(DType dtype) {
  return kDTypes.at(static_cast<std::size_t>(dtype));
}

/// Size of a tensor in bytes; nullopt when it does not fit.
std::optional<std::uint64_t> num_bytes(DType dtype, const std::vector<std::int64_t>& shape) {
  std::uint64_t size = size_of(dtype);
  for (const std::int64_t extent : shape)
    if (extent < 0 || __builtin_mul_overflow(size, static_cast<std::uint64_t>(extent), &size))
      return std::nullopt;
  return size;
}

[[noreturn]] void damaged(const std::string& file, const std::string& what) {
  throw DataError(fmt::format("{}: {}; the file is damaged or no safetensors file", file, what));
}

/// Sizes match shapes, and the tensors cover the data from its first to its last byte, each byte once.
void check_layout(const Header& header, std::uint64_t file_size, const std::string& file) {
  using Row = std::pair<const std::string, TensorInfo>;
  std::vector<const Row*> by_offset;
  for (const Row& row : header.tensors) {
    const auto& [name, info] = row;
    if (info.begin_bytes > info.end_bytes)
      damaged(file, fmt::format("tensor {}: data_offsets end before they begin", in_quotes(name)));
    const auto expected = num_bytes(info.dtype, info.shape);
    if (!expected) damaged(file, fmt::format("tensor {}: its shape is too large", in_quotes(name)));
    if (*expected != info.end_bytes - info.begin_bytes)
      damaged(file, fmt::format("tensor {}: data_offsets span {} bytes, its shape and dtype need {}",
                                in_quotes(name), info.end_bytes - info.begin_bytes, *expected));
    by_offset.push_back(&row);
  }
  std::sort(by_offset.begin(), by_offset.end(), [](const Row* a, const Row* b) {
    return std::pair(a->second.begin_bytes, a->second.end_bytes) <
           std::pair(b->second.begin_bytes, b->second.end_bytes);
  });
  std::uint64_t at = 0;
  for (const Row* row : by_offset) {
    const auto& [name, info] = *row;
    if (info.begin_bytes < at)
      damaged(file, fmt::format("tensor {} overlaps the one before it", in_quotes(name)));
    if (info.begin_bytes > at)
      damaged(file, fmt::format("{} bytes before tensor {} belong to none", info.begin_bytes - at,
                                in_quotes(name)));
    at = info.end_bytes;
  }
  const std::uint64_t data_bytes = file_size - header.data_offset_bytes;
  if (at > data_bytes)
    damaged(file, fmt::format("cut short: its tensors need {} bytes of data, it has {}", at, data_bytes));
  if (at < data_bytes) damaged(file, fmt::format("{} bytes at its end belong to no tensor", data_bytes - at));
}

/// Header text and the entries in the order in which their bytes follow it: wide types first, so that every
/// tensor is aligned to its own element (as the Python package does), then by name.
std::string layout(std::vector<Entry>& entries, const std::map<std::string, std::string>& metadata) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    if (size_of(a.dtype) != size_of(b.dtype)) return size_of(a.dtype) > size_of(b.dtype);
    return a.name < b.name;
  });
  nlohmann::json header = nlohmann::json::object();  // a sorted map
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t at = 0;
  for (const Entry& entry : entries) {
    const auto expected = num_bytes(entry.dtype, entry.shape);
    if (!expected || *expected != entry.bytes.size())
      throw std::invalid_argument("safetensors::write: shape and bytes of " + entry.name + " do not match");
    if (entry.name == "__metadata__" || header.contains(entry.name))
      throw std::invalid_argument("safetensors::write: tensor name " + entry.name + " twice or reserved");
    header[entry.name] = {{"dtype", name_of(entry.dtype)},
                          {"shape", entry.shape},
                          {"data_offsets", {at, at + entry.bytes.size()}}};
    at += entry.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

std::size_t size_of(DType dtype) {
  return row_of(dtype).size_bytes;
}

std::string_view name_of(DType dtype) {
  return row_of(dtype).name;
}

std::optional<DType> dtype_of(std::string_view name) {
  for (const DTypeRow& row : kDTypes)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

Header parse_header(std::span<const std::byte> prefix, std::uint64_t file_size,
                    const std::string& name_for_errors) {
  std::uint64_t length = 0;
  if (file_size < sizeof length || prefix.size() < sizeof length)
    damaged(name_for_errors,
            fmt::format("only {} bytes long", std::min<std::uint64_t>(file_size, prefix.size())));
  std::memcpy(&length, prefix.data(), sizeof length);
  if (length > kMaxHeaderBytes)
    damaged(name_for_errors,
            fmt::format("header length {} is above the limit of {} bytes", length, kMaxHeaderBytes));
  const std::uint64_t available = std::min<std::uint64_t>(file_size, prefix.size()) - sizeof length;
  if (length > available)
    damaged(name_for_errors,
            fmt::format("header of {} bytes goes past its end ({} bytes are there)", length, available));
  const std::string_view text(reinterpret_cast<const char*>(prefix.data()) + sizeof length, length);
  Header header;
  const std::string defect = parse_header_json(text, header);
  if (!defect.empty()) damaged(name_for_errors, defect);
  header.data_offset_bytes = sizeof length + length;
  check_layout(header, file_size, name_for_errors);
  return header;
}

File::File(const std::filesystem::path& path) : path_(path) {
  const Descriptor file = open_file(path, O_RDONLY, "read");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw io_error("read", path, errno);
  if (!S_ISREG(status.st_mode)) throw DataError(path.string() + " is not a file");
  size_bytes_ = static_cast<std::uint64_t>(status.st_size);
  if (size_bytes_ > 0) {
    void* mapped = ::mmap(nullptr, size_bytes_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (mapped == MAP_FAILED) throw io_error("map", path, errno);
    data_ = static_cast<std::byte*>(mapped);
  }
  try {
    header_ = parse_header(std::span(data_, size_bytes_), size_bytes_, path.string());
  } catch (...) {
    if (data_ != nullptr) ::munmap(data_, size_bytes_);
    throw;
  }
}

File::~File() {
  ::munmap(data_, size_bytes_);
}

std::span<const std::byte> File::bytes(const std::string& tensor) const {
  const auto found = header_.tensors.find(tensor);
  if (found == header_.tensors.end()) {
    std::vector<std::string> names;
    for (const auto& [name, info] : header_.tensors) names.push_back(name);
    throw DataError(fmt::format("{}: has no tensor {}.{}", path_.string(), in_quotes(tensor),
                                did_you_mean(tensor, names)));
  }
  const TensorInfo& info = found->second;
  return {data_ + header_.data_offset_bytes + info.begin_bytes, info.end_bytes - info.begin_bytes};
}

void write(const std::filesystem::path& path, std::vector<Entry> entries,
           const std::map<std::string, std::string>& metadata) {
  const std::string header = layout(entries, metadata);
  const std::uint64_t length = header.size();
  create_file(path, 0644, [&](const Descriptor& file) {
    write_all(file, std::as_bytes(std::span(&length, 1)), path);
    write_all(file, std::as_bytes(std::span(header)), path);
    for (const Entry& entry : entries) write_all(file, entry.bytes, path);
  });
}

}  // namespace cosub::safetensors
