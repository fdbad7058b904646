// The safetensors container (huggingface.co/docs/safetensors): 8 bytes little-endian header length, JSON
// header, tensor bytes. This reads and writes bytes and shapes; turning them into tensors is worker/model's
// business. A hostile file gives DataError with file name, tensor name and what is wrong; never undefined
// behaviour.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cosub::safetensors {

enum class DType { kBool, kU8, kI8, kI16, kI32, kI64, kF16, kBF16, kF32, kF64 };
std::size_t size_of(DType dtype);
std::string_view name_of(DType dtype);  // "F32", ...

struct TensorInfo {
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;  // [] is a scalar
  std::uint64_t begin_bytes = 0;    // relative to the end of the header
  std::uint64_t end_bytes = 0;
  bool operator==(const TensorInfo&) const = default;
};

struct Header {
  std::map<std::string, TensorInfo> tensors;    // by name
  std::map<std::string, std::string> metadata;  // "__metadata__"
  std::uint64_t data_offset_bytes = 0;          // 8 + header length
};

/// Parses the header of a file of `file_size` bytes whose first bytes are `prefix` (at least the whole
/// header). Checks: header length <= 100 MB and inside the file, JSON well-formed, no duplicate names, known
/// dtypes, shapes non-negative without overflow and of at most 64 dimensions, offsets matching shape and
/// dtype, no holes, no overlaps, nothing past the end. The DataError of a file that is something else
/// (PyTorch's own format, a web page) says what, and how to convert it.
Header parse_header(std::span<const std::byte> prefix, std::uint64_t file_size,
                    const std::string& name_for_errors);

/// A file mapped read-only. The spans live as long as the File.
class File {
 public:
  explicit File(const std::filesystem::path& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const Header& header() const { return header_; }
  std::span<const std::byte> bytes(const std::string& tensor) const;  // DataError (nearest name) when missing

 private:
  std::filesystem::path path_;
  std::byte* data_ = nullptr;
  std::uint64_t size_bytes_ = 0;
  Header header_;
};

/// One tensor to write; `bytes` is contiguous row-major, little-endian, and must outlive the call.
struct Entry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Writes header (names sorted, padded with blanks to 8 bytes) and data (wide types first, then by name, so
/// that every tensor is aligned and equal content gives equal bytes) to a new file, fsyncs it and its folder.
/// `path` must not exist.
void write(const std::filesystem::path& path, std::vector<Entry> entries,
           const std::map<std::string, std::string>& metadata = {});

}  // namespace cosub::safetensors
