#include "worker/checkpoint/folder_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <regex>

#include "common/descriptor.h"

namespace cosub::checkpoint {
namespace {

std::optional<std::int64_t> number(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::string step_name(std::int64_t step) {
  return fmt::format("step-{:09d}", step);
}

std::string temporary_name(std::int64_t step, std::int64_t attempt) {
  return fmt::format(".{}.attempt-{}", step_name(step), attempt);
}

std::string pruned_name(std::int64_t step) {
  return fmt::format(".{}.pruned", step_name(step));
}

std::optional<StepName> parse_step_name(const std::string& name) {
  static const std::regex pattern(R"(step-(\d{9,})(\.damaged-\d+)?)");
  std::smatch match;
  if (!std::regex_match(name, match, pattern)) return std::nullopt;
  const auto step = number(match[1]);
  if (!step || !name.starts_with(step_name(*step))) return std::nullopt;
  return StepName{*step, match[2].matched};
}

bool is_leftover(const std::string& name, std::int64_t attempt) {
  static const std::regex pattern(R"(\.step-\d+\.(pruned|attempt-(\d+)))");
  std::smatch match;
  if (!std::regex_match(name, match, pattern)) return false;
  if (!match[2].matched) return true;
  const auto writer = number(match[2]);
  return writer && *writer <= attempt;
}

std::vector<std::string> list_names(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error == std::errc::no_such_file_or_directory) return {};
  if (error) throw io_error("list", folder, error.value());
  std::ranges::sort(names);
  return names;
}

}  // namespace cosub::checkpoint
