// What people give where a safetensors file is expected, told by its first bytes: PyTorch's own files,
// NumPy's, Keras', an HTML page or a Git LFS pointer instead of the download. For messages only.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace cosub {

/// What the file is and what to do about it, as the end of a sentence that begins with its path ("is a
/// PyTorch file ... Convert it ..."); "" when nothing known begins with `first` (128 bytes are enough).
/// `path` goes into the line of Python that converts it.
std::string describe_foreign_file(std::span<const std::byte> first, const std::string& path);

}  // namespace cosub
