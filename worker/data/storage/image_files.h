// Image files in folders: which there are, and reading one. Blocking; any thread.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "worker/data/image/image.h"

namespace cosub::data {

/// In lower case: ".jpg" of x.JPG.
std::string extension_of(const std::filesystem::path& path);

/// Whether the name ends as torchvision's list of extensions has it, in any case; some of those formats
/// cannot be decoded here, and such a file is a bad sample.
bool is_image_name(const std::filesystem::path& path);

/// The files at any depth below root/start whose names `accepts` takes, as paths below `root`, sorted by
/// folder first ("a", "a-b", "a/b"), then by name, as sorted(os.walk()) with sorted files gives them. Links
/// are followed. std::filesystem::filesystem_error when a folder cannot be listed.
std::vector<std::string> files_below(const std::filesystem::path& root, const std::filesystem::path& start,
                                     const std::function<bool(const std::filesystem::path&)>& accepts);

/// The whole file. DataError when it is gone, closed to this user, cut short meanwhile or no image by its
/// size, IoError when it cannot be read just now; both name it.
void read_image_file(const std::string& path, ByteBuffer& buffer);

}  // namespace cosub::data
