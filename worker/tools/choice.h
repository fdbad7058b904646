// Options of the tools that take one of several names, as the configuration's keys do.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "common/config/names.h"

namespace cosub::tools {

/// A name that is none is refused with those that are. `help` says them, and which is the default.
template <typename Value>
CLI::Option* add_choice(CLI::App& app, const std::string& option, Value& value,
                        const config::Names<Value>& names, const std::string& help) {
  const auto number_of = [names](std::string& text) {
    const Value* const found = config::value_of(names, text);
    if (found == nullptr) {
      std::string allowed;
      for (const auto& [name, of_name] : names) allowed += (allowed.empty() ? "" : ", ") + name;
      return fmt::format("found {}; allowed: {}", text, allowed);
    }
    text = std::to_string(static_cast<std::int64_t>(*found));
    return std::string();
  };
  return app.add_option(option, value, help)->transform(CLI::Validator(number_of, ""))->type_name("NAME");
}

}  // namespace cosub::tools
