// The JSON part of a safetensors file, and what reading and writing share. Used by safetensors*.cpp alone.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/safetensors.h"

namespace cosub::safetensors {

std::optional<DType> dtype_of(std::string_view name);
std::vector<std::string_view> dtype_names();

/// Size of a tensor in bytes; nullopt when it does not fit. An empty tensor's other extents must fit as well:
/// its strides are their products.
std::optional<std::uint64_t> num_bytes(DType dtype, const std::vector<std::int64_t>& shape);

/// Fills tensors and metadata of `header` from `text`, which may be hostile. Returns "" or what is wrong.
/// Offsets are checked against nothing here.
std::string parse_header_json(std::string_view text, Header& header);

/// A name from a file, fit for a message: escaped, in quotes, not longer than a line.
std::string in_quotes(std::string_view name);

}  // namespace cosub::safetensors
