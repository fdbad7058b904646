#include "common/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "common/error.h"
#include "common/foreign_file.h"
#include "common/safetensors_header.h"

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

[[noreturn]] void damaged(const std::string& file, const std::string& what) {
  throw DataError(fmt::format("{}: {}; the file is damaged or no safetensors file", file, what));
}

[[noreturn]] void cut_short(const std::string& file, const std::string& missing) {
  throw DataError(fmt::format("{}: cut short: {}; copy or download it again", file, missing));
}

/// For a file that does not begin as safetensors do: what it is instead, where that can be told.
[[noreturn]] void no_header(std::span<const std::byte> first, const std::string& file,
                            const std::string& what) {
  const std::string foreign = describe_foreign_file(first, file);
  if (foreign.empty()) damaged(file, what);
  throw DataError(fmt::format("{} {}", file, foreign));
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
    cut_short(file, fmt::format("{} bytes are missing (its tensors need {}, {} are there)", at - data_bytes,
                                at, data_bytes));
  if (at < data_bytes) damaged(file, fmt::format("{} bytes at its end belong to no tensor", data_bytes - at));
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

std::optional<std::uint64_t> num_bytes(DType dtype, const std::vector<std::int64_t>& shape) {
  auto size = static_cast<std::int64_t>(size_of(dtype));
  bool empty = false;
  for (const std::int64_t extent : shape) {
    empty = empty || extent == 0;
    if (extent < 0 || __builtin_mul_overflow(size, std::max<std::int64_t>(extent, 1), &size))
      return std::nullopt;
  }
  return empty ? 0 : static_cast<std::uint64_t>(size);
}

std::vector<std::string_view> dtype_names() {
  std::vector<std::string_view> names;
  for (const DTypeRow& row : kDTypes) names.push_back(row.name);
  return names;
}

Header parse_header(std::span<const std::byte> prefix, std::uint64_t file_size,
                    const std::string& name_for_errors) {
  std::uint64_t length = 0;
  const std::uint64_t there = std::min<std::uint64_t>(file_size, prefix.size());
  const auto first = prefix.first(there);
  if (there == 0) throw DataError(name_for_errors + " is empty (0 bytes); copy or download it again");
  if (there < sizeof length) no_header(first, name_for_errors, fmt::format("only {} bytes long", there));
  std::memcpy(&length, prefix.data(), sizeof length);
  if (length == 0)
    no_header(first, name_for_errors, "begins with zeros, as an interrupted download may leave it");
  if (length > kMaxHeaderBytes)
    no_header(first, name_for_errors,
              fmt::format("header length {} is above the limit of {} bytes", length, kMaxHeaderBytes));
  const std::uint64_t available = there - sizeof length;
  const std::string_view text(reinterpret_cast<const char*>(prefix.data()) + sizeof length,
                              std::min(length, available));
  if (!text.empty() && text.front() != '{')
    no_header(first, name_for_errors, "its header does not begin with '{'");
  if (length > available)
    cut_short(name_for_errors,
              fmt::format("at least {} bytes are missing (its header needs {}, {} are there)",
                          length - available, length, available));
  Header header;
  const std::string defect = parse_header_json(text, header);
  if (!defect.empty()) damaged(name_for_errors, defect);
  header.data_offset_bytes = sizeof length + length;
  check_layout(header, file_size, name_for_errors);
  return header;
}

}  // namespace cosub::safetensors
