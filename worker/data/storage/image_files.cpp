#include "worker/data/storage/image_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "common/descriptor.h"
#include "common/error.h"

namespace cosub::data {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxFileBytes = std::int64_t{1} << 31;

}  // namespace

std::string extension_of(const fs::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return extension;
}

bool is_image_name(const fs::path& path) {
  static constexpr std::array<std::string_view, 9> kExtensions = {".jpg", ".jpeg", ".png",  ".ppm", ".bmp",
                                                                  ".pgm", ".tif",  ".tiff", ".webp"};
  return std::ranges::find(kExtensions, extension_of(path)) != kExtensions.end();
}

std::vector<std::string> files_below(const fs::path& root, const fs::path& start,
                                     const std::function<bool(const fs::path&)>& accepts) {
  std::vector<std::pair<std::string, std::string>> found;  // folder, name
  const auto options = fs::directory_options::follow_directory_symlink;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root / start, options)) {
    if (!accepts(entry.path()) || entry.is_directory()) continue;
    const std::string folder = entry.path().parent_path().lexically_relative(root).string();
    found.emplace_back(folder == "." ? "" : folder, entry.path().filename().string());
  }
  std::ranges::sort(found);
  std::vector<std::string> paths;
  paths.reserve(found.size());
  for (const auto& [folder, name] : found) paths.push_back(folder.empty() ? name : folder + "/" + name);
  return paths;
}

void read_image_file(const std::string& path, ByteBuffer& buffer) {
  const auto refuse = [&](const char* what) {
    const int code = errno;
    const std::string message = fmt::format("{}: {}: {}", path, what, std::strerror(code));
    // Gone for good is the sample's fault; anything else may pass.
    if (code == ENOENT || code == ENOTDIR || code == EACCES || code == ELOOP) throw DataError(message);
    throw IoError(message, code);
  };
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) refuse("cannot open");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) refuse("cannot stat");
  if (!S_ISREG(status.st_mode)) throw DataError(fmt::format("{}: no regular file", path));
  if (status.st_size > kMaxFileBytes)
    throw DataError(fmt::format("{}: {} bytes are no image", path, status.st_size));
  buffer.resize(static_cast<std::size_t>(status.st_size), boost::container::default_init);
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t got = ::read(file.get(), buffer.data() + done, buffer.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse("cannot read");
    if (got == 0) throw DataError(fmt::format("{}: ended at byte {} of {}", path, done, buffer.size()));
    done += static_cast<std::size_t>(got);
  }
}

}  // namespace cosub::data
