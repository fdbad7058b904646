// The JSON part of a safetensors file. Used by safetensors.cpp alone.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/safetensors.h"

namespace cosub::safetensors {

std::optional<DType> dtype_of(std::string_view name);

/// Fills tensors and metadata of `header` from `text`, which may be hostile. Returns "" or what is wrong.
/// Offsets are checked against nothing here.
std::string parse_header_json(std::string_view text, Header& header);

/// A name from a file, fit for a message: escaped, in quotes, not longer than a line.
std::string in_quotes(std::string_view name);

}  // namespace cosub::safetensors
