// Options of the tools that take a number within bounds: what lies outside is refused with what is allowed,
// in the configuration's words.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "common/config/kinds.h"

namespace cosub::tools {

/// --help shows the bounds beside the type: INT:(>= 1).
inline CLI::Validator number_in(const config::Range<double>& range) {
  const auto check = [range](const std::string& text) {
    const std::optional<double> value = config::read_double(text);
    if (value && range.holds(*value)) return std::string();
    return fmt::format("found {}; allowed: {}", text, range.allowed);
  };
  return {check, fmt::format("({})", range.allowed.substr(std::string("a number ").size()))};
}

inline CLI::Validator whole_from_to(std::int64_t least, std::int64_t most) {
  const auto check = [least, most](const std::string& text) {
    const std::optional<std::int64_t> value = config::read_int(text);
    if (value && *value >= least && *value <= most) return std::string();
    return fmt::format("found {}; allowed: a whole number from {} to {}", text, least, most);
  };
  return {check, fmt::format("({} to {})", least, most)};
}

/// Other than config::whole_at_least up to what 64 bits hold: what is too much depends on the machine here.
inline CLI::Validator whole_at_least(std::int64_t least) {
  const auto check = [least](const std::string& text) {
    const std::optional<std::int64_t> value = config::read_int(text);
    if (value && *value >= least) return std::string();
    const bool is_too_large = !value && text.find_first_not_of("0123456789") == std::string::npos;
    return fmt::format("found {}; allowed: a whole number {} {}", text, is_too_large ? "<=" : ">=",
                       is_too_large ? std::numeric_limits<std::int64_t>::max() : least);
  };
  return {check, fmt::format("(>= {})", least)};
}

}  // namespace cosub::tools
