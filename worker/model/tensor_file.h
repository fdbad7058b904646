// Tensors in safetensors files. Reading copies (the file may go away); writing takes contiguous CPU copies as
// needed.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <string>

namespace cosub::model {

/// All tensors of a file by name, on CPU. DataError or IoError naming the file.
std::map<std::string, at::Tensor> read_tensors(const std::filesystem::path& path);

/// The header's own text, by key; empty where there is none. DataError or IoError naming the file.
std::map<std::string, std::string> read_metadata(const std::filesystem::path& path);

/// Writes a new file (IoError when it exists), names sorted, so that equal tensors give equal bytes.
void write_tensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                   const std::map<std::string, std::string>& metadata = {});

}  // namespace cosub::model
