// File and write: safetensors on the disk.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "common/descriptor.h"
#include "common/error.h"
#include "common/safetensors.h"
#include "common/safetensors_header.h"
#include "common/text.h"

namespace cosub::safetensors {
namespace {

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
