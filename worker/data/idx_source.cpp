#include "worker/data/idx_source.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "common/error.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kChunkBytes = std::size_t{16} << 20;

/// A plain or compressed file, read from front to back; zlib tells the two apart by their first bytes.
class Reader {
 public:
  explicit Reader(const fs::path& path) : path_(path) {
    check_is_file();
    errno = 0;
    file_.reset(gzopen(path.c_str(), "rb"));
    if (!file_) throw IoError(fmt::format("{}: cannot open: {}", path.string(), std::strerror(errno)));
    gzbuffer(file_.get(), 256 << 10);
  }

  /// Fills `out` as far as the file goes; returns how many bytes there were.
  std::size_t read(std::span<std::uint8_t> out) {
    errno = 0;
    const int got = gzread(file_.get(), out.data(), static_cast<unsigned>(out.size()));
    int code = Z_OK;
    const char* text = gzerror(file_.get(), &code);
    if (code == Z_ERRNO)
      throw IoError(fmt::format("{}: cannot read: {}", path_.string(), std::strerror(errno)));
    // A compressed file that was cut delivers what there is, and says so (Z_BUF_ERROR) beside it.
    if (got < 0 || (code != Z_OK && code != Z_STREAM_END)) {
      throw DataError(fmt::format(
          "{}: the compressed data are damaged or cut short ({}); copy or download the file again",
          path_.string(), text));
    }
    return static_cast<std::size_t>(got);
  }

 private:
  void check_is_file() const {
    std::error_code error;
    const fs::file_status status = fs::status(path_, error);
    if (status.type() == fs::file_type::not_found) {
      const bool from_debian = path_.string().starts_with("/usr/share/datasets/fashion-mnist");
      throw DataError(fmt::format("{}: no such file; {}", path_.string(),
                                  from_debian
                                      ? "install it with: apt-get install dataset-fashion-mnist"
                                      : "correct data.*.idx in the pipeline file, or put the file there"));
    }
    if (error) throw IoError(fmt::format("{}: {}", path_.string(), error.message()));
    if (status.type() == fs::file_type::directory) {
      throw DataError(fmt::format("{}: is a folder; an IDX file is expected", path_.string()));
    }
  }

  struct Close {
    void operator()(gzFile file) const { gzclose(file); }  // for reading: nothing is left to fail
  };
  fs::path path_;
  std::unique_ptr<gzFile_s, Close> file_;
};

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::vector<std::int64_t> read_header(Reader& reader, const fs::path& path) {
  std::array<std::uint8_t, 4> magic{};
  const std::size_t got = reader.read(magic);
  if (got < magic.size()) {
    throw DataError(fmt::format("{}: ends after {} bytes; an IDX file begins with 4 bytes of magic number",
                                path.string(), got));
  }
  if (magic[0] != 0 || magic[1] != 0) {
    throw DataError(
        fmt::format("{}: begins with bytes {:02x} {:02x} {:02x} {:02x}, so it is no IDX file; expected 00 00 "
                    "08 and the number of dimensions",
                    path.string(), magic[0], magic[1], magic[2], magic[3]));
  }
  if (magic[2] != 0x08) {
    throw DataError(fmt::format("{}: IDX type 0x{:02x} found; only 0x08 (unsigned bytes) is supported",
                                path.string(), magic[2]));
  }
  if (magic[3] < 1 || magic[3] > 4) {
    throw DataError(fmt::format("{}: {} dimensions found; 1 (labels), 3 or 4 (images) are expected",
                                path.string(), magic[3]));
  }
  std::vector<std::int64_t> shape;
  for (int i = 0; i < magic[3]; ++i) {
    std::array<std::uint8_t, 4> word{};
    if (reader.read(word) < word.size()) {
      throw DataError(
          fmt::format("{}: ends inside the header, which announces {} dimensions", path.string(), magic[3]));
    }
    shape.push_back((std::int64_t{word[0]} << 24) | (word[1] << 16) | (word[2] << 8) | word[3]);
    if (shape.back() == 0)
      throw DataError(fmt::format("{}: dimension {} is 0; the file holds nothing", path.string(), i));
  }
  return shape;
}

class IdxSource : public Source {
 public:
  IdxSource(std::vector<std::uint8_t> pixels, StoredImage::Shape shape, std::vector<std::uint8_t> labels,
            std::string file)
      : pixels_(std::move(pixels)), shape_(shape), labels_(std::move(labels)), file_(std::move(file)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(labels_.size()); }
  std::int64_t channels() const override { return shape_.channels; }
  std::int64_t label(std::int64_t index) const override { return labels_.at(index); }
  std::string name(std::int64_t index) const override { return fmt::format("{}: image {}", file_, index); }
  StoredImage read(std::int64_t index, ByteBuffer&) const override {
    const auto bytes = static_cast<std::size_t>(shape_.height * shape_.width * shape_.channels);
    return {std::span(pixels_).subspan(index * bytes, bytes), shape_};
  }

 private:
  std::vector<std::uint8_t> pixels_;  // [N, H, W, C]
  StoredImage::Shape shape_;
  std::vector<std::uint8_t> labels_;
  std::string file_;
};

/// [N, C, H, W] -> [N, H, W, C]
std::vector<std::uint8_t> interleaved(std::vector<std::uint8_t> planes,
                                      const std::vector<std::int64_t>& shape) {
  const std::int64_t channels = shape[1], area = shape[2] * shape[3];
  if (channels == 1) return planes;
  std::vector<std::uint8_t> result(planes.size());
  const std::uint8_t* from = planes.data();
  for (std::int64_t n = 0; n < shape[0]; ++n) {
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t i = 0; i < area; ++i) result[(n * area + i) * channels + c] = *from++;
    }
  }
  return result;
}

std::vector<std::int64_t> image_shape(const IdxFile& images, const fs::path& path) {
  std::vector<std::int64_t> shape = images.shape;
  if (shape.size() != 3 && shape.size() != 4) {
    throw DataError(fmt::format(
        "{}: shape {} found; images need [N, H, W] or [N, C, H, W]. Are images and labels swapped?",
        path.string(), shape_text(shape)));
  }
  if (shape.size() == 3) shape.insert(shape.begin() + 1, 1);
  return shape;
}

}  // namespace

IdxFile read_idx(const fs::path& path) {
  Reader reader(path);
  IdxFile file{read_header(reader, path), {}};
  std::uint64_t announced = 1;
  for (const std::int64_t extent : file.shape) {
    // 2^40 bytes are more than any machine's memory that would read this format; the product cannot overflow
    // below it.
    announced *= static_cast<std::uint64_t>(extent);
    if (announced > (std::uint64_t{1} << 40)) {
      throw DataError(fmt::format("{}: the header announces shape {}, which cannot be; the file is damaged",
                                  path.string(), shape_text(file.shape)));
    }
  }
  // Memory grows with what is really there, so that a damaged header cannot ask for all of it at once.
  while (file.bytes.size() < announced) {
    const std::size_t before = file.bytes.size();
    file.bytes.resize(before + std::min<std::uint64_t>(kChunkBytes, announced - before));
    const std::size_t got = reader.read(std::span(file.bytes).subspan(before));
    if (before + got < file.bytes.size()) {
      throw DataError(fmt::format(
          "{}: holds {} bytes of data; its header announces shape {} = {} bytes. It was cut short: copy "
          "or download it again",
          path.string(), before + got, shape_text(file.shape), announced));
    }
  }
  std::array<std::uint8_t, 1> beyond{};
  if (reader.read(beyond) != 0) {
    throw DataError(fmt::format(
        "{}: goes on after the {} bytes that its header announces (shape {}); header or file is damaged",
        path.string(), announced, shape_text(file.shape)));
  }
  return file;
}

std::unique_ptr<Source> open_idx_source(const config::IdxSource& files, std::int64_t limit,
                                        std::int64_t classes) {
  IdxFile labels = read_idx(files.labels);
  if (labels.shape.size() != 1) {
    throw DataError(fmt::format("{}: shape {} found; labels need [N]. Are images and labels swapped?",
                                files.labels.string(), shape_text(labels.shape)));
  }
  IdxFile images = read_idx(files.images);
  std::vector<std::int64_t> shape = image_shape(images, files.images);
  if (shape[0] != labels.shape[0]) {
    throw DataError(fmt::format("{} holds {} images but {} holds {} labels; they belong to different sets",
                                files.images.string(), shape[0], files.labels.string(), labels.shape[0]));
  }
  if (limit > shape[0]) {
    throw DataError(fmt::format("{}: holds {} images; data.*.limit asks for {}. Lower it, or set 0 for all",
                                files.images.string(), shape[0], limit));
  }
  if (limit > 0) {
    images.bytes.resize(limit * shape[1] * shape[2] * shape[3]);
    images.bytes.shrink_to_fit();
    labels.bytes.resize(limit);
    shape[0] = limit;
  }
  const auto bad = std::ranges::find_if(labels.bytes, [&](std::uint8_t label) { return label >= classes; });
  if (bad != labels.bytes.end()) {
    throw DataError(fmt::format("{}: sample {} has label {}; model.classes is {}, so labels are 0 to {}",
                                files.labels.string(), bad - labels.bytes.begin(), *bad, classes,
                                classes - 1));
  }
  return std::make_unique<IdxSource>(interleaved(std::move(images.bytes), shape),
                                     StoredImage::Shape{shape[2], shape[3], shape[1]},
                                     std::move(labels.bytes), files.images.string());
}

}  // namespace cosub::data
