#include "common/braces.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string_view>

#include "common/error.h"

namespace cosub {
namespace {

constexpr std::size_t kMostNames = 1'000'000;
constexpr std::string_view kDigits = "0123456789";

using Names = std::vector<std::string>;

/// One text being expanded; it is named in the errors.
class Expansion {
 public:
  explicit Expansion(const std::string& text) : text_(text) {}

  Names expand(std::string_view part) const {
    for (std::size_t open = part.find('{'); open != part.npos; open = part.find('{', open + 1)) {
      const std::size_t close = closing(part, open);
      if (close == part.npos) continue;
      const std::optional<Names> inside = meaning_of(part.substr(open + 1, close - open - 1));
      if (!inside) continue;
      return combined(std::string(part.substr(0, open)), *inside, expand(part.substr(close + 1)));
    }
    return {std::string(part)};
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw DataError(fmt::format("{}: {}", text_, what));
  }

  [[noreturn]] void refuse_many() const {
    refuse(fmt::format("stands for more than {} names; shorten its ranges", kMostNames));
  }

  /// npos: it is not closed.
  static std::size_t closing(std::string_view part, std::size_t open) {
    std::size_t depth = 0;
    for (std::size_t at = open; at < part.size(); ++at) {
      if (part[at] == '{') ++depth;
      if (part[at] == '}' && --depth == 0) return at;
    }
    return part.npos;
  }

  /// The parts between the commas that lie in no inner braces.
  static std::vector<std::string_view> alternatives(std::string_view inside) {
    std::vector<std::string_view> parts;
    std::size_t depth = 0, begin = 0;
    for (std::size_t at = 0; at < inside.size(); ++at) {
      if (inside[at] == '{') ++depth;
      if (inside[at] == '}') --depth;
      if (inside[at] != ',' || depth > 0) continue;
      parts.push_back(inside.substr(begin, at - begin));
      begin = at + 1;
    }
    parts.push_back(inside.substr(begin));
    return parts;
  }

  Names combined(const std::string& before, const Names& inside, const Names& after) const {
    if (inside.size() > kMostNames / after.size()) refuse_many();
    Names names;
    names.reserve(inside.size() * after.size());
    for (const std::string& middle : inside) {
      for (const std::string& end : after) names.push_back(before + middle + end);
    }
    return names;
  }

  /// What stands for {inside}; nullopt: itself.
  std::optional<Names> meaning_of(std::string_view inside) const {
    const std::vector<std::string_view> parts = alternatives(inside);
    if (parts.size() == 1 && inside.find('{') == inside.npos) {
      return inside.find("..") == inside.npos ? std::nullopt : std::optional(range(inside));
    }
    if (parts.size() == 1) return std::nullopt;
    Names names;
    for (const std::string_view part : parts) {
      if (is_range(part)) {
        refuse(fmt::format("'{0}' within '{{{1}}}' is no range, but the name '{0}'; write {{{0}}} there",
                           part, inside));
      }
      std::ranges::move(expand(part), std::back_inserter(names));
      if (names.size() > kMostNames) refuse_many();
    }
    return names;
  }

  static std::vector<std::string_view> ends_of(std::string_view inside) {
    std::vector<std::string_view> numbers;
    for (std::size_t dots; (dots = inside.find("..")) != inside.npos; inside.remove_prefix(dots + 2)) {
      numbers.push_back(inside.substr(0, dots));
    }
    numbers.push_back(inside);
    return numbers;
  }

  static bool is_number(std::string_view digits) {
    return !digits.empty() && digits.size() < 10 && digits.find_first_not_of(kDigits) == digits.npos;
  }

  static bool is_range(std::string_view inside) {
    const std::vector<std::string_view> numbers = ends_of(inside);
    return numbers.size() > 1 && std::ranges::all_of(numbers, is_number);
  }

  Names range(std::string_view inside) const {
    const std::vector<std::string_view> numbers = ends_of(inside);
    const auto number = [&](std::size_t i) { return std::stoll(std::string(numbers[i])); };
    const bool is_sound = is_range(inside) && numbers.size() <= 3;
    const std::int64_t step = is_sound && numbers.size() == 3 ? number(2) : 1;
    if (!is_sound || number(0) > number(1) || step < 1) {
      refuse(
          fmt::format("'{{{}}}' is no range; expected {{FIRST..LAST}} as in {{000000..002047}}, or "
                      "{{FIRST..LAST..STEP}}",
                      inside));
    }
    if ((number(1) - number(0)) / step >= static_cast<std::int64_t>(kMostNames)) refuse_many();
    const auto is_padded = [](std::string_view digits) { return digits.size() > 1 && digits[0] == '0'; };
    const std::size_t width =
        is_padded(numbers[0]) || is_padded(numbers[1]) ? std::max(numbers[0].size(), numbers[1].size()) : 1;
    Names names;
    for (std::int64_t i = number(0); i <= number(1); i += step)
      names.push_back(fmt::format("{:0{}}", i, width));
    return names;
  }

  const std::string& text_;
};

}  // namespace

std::vector<std::string> expand_braces(const std::string& text) {
  return Expansion(text).expand(text);
}

}  // namespace cosub
