// Numbers, flags and strings as YAML scalars: strict reading, and printing that reads back as the same value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cosub::config {

/// The whole text as a finite number, an integer or a flag; nullopt for anything else (trailing text, NaN,
/// overflow).
std::optional<double> read_double(std::string_view text);
std::optional<std::int64_t> read_int(std::string_view text);
std::optional<std::uint64_t> read_unsigned(std::string_view text);
std::optional<bool> read_flag(std::string_view text);

/// Where the text stops being UTF-8 without control characters (other than tab and line ends); nullopt:
/// nowhere.
std::optional<std::size_t> find_unreadable(std::string_view text);

/// The shortest text that reads back as the same double.
std::string double_text(double value);

/// A string as a YAML scalar: plain where every YAML reader takes it for the same string, else in double
/// quotes.
std::string yaml_scalar(const std::string& text);

}  // namespace cosub::config
