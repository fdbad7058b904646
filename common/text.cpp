#include "common/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <utility>

namespace cosub {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitution = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::size_t width(std::string_view cell) {
  const auto starts_code_point = [](unsigned char byte) { return (byte & 0xC0) != 0x80; };
  return static_cast<std::size_t>(std::count_if(cell.begin(), cell.end(), starts_code_point));
}

/// True for "12", "-0.5", "1,234", "91.2 %": what a column of numbers holds.
bool looks_like_number(std::string_view cell) {
  if (cell.empty() || cell.find_first_of("0123456789") == std::string_view::npos) return false;
  return cell.find_first_not_of("0123456789.,+-eE% ") == std::string_view::npos;
}

std::string join_row(const std::vector<std::string>& row, const std::vector<std::size_t>& widths) {
  std::string line;
  for (std::size_t column = 0; column < row.size(); ++column) {
    const std::string padding(widths[column] - width(row[column]), ' ');
    line += column == 0 ? "" : "  ";
    line += looks_like_number(row[column]) ? padding + row[column] : row[column] + padding;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

/// What people call a thing, and what it is called here: too far apart for the edit distance.
constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kOtherNames = {
    {{"gpu", "cuda"}, {"GPU", "cuda"}}};

std::optional<std::string> by_other_name(std::string_view word, const std::vector<std::string>& candidates) {
  for (const auto& [other, name] : kOtherNames) {
    if (other == word && std::ranges::find(candidates, name) != candidates.end()) return std::string(name);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::optional<std::string> best = by_other_name(word, candidates);
  if (best) return best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3);
  for (const std::string& candidate : candidates) {
    const std::size_t longer = std::max(candidate.size(), word.size());
    if (longer - std::min(candidate.size(), word.size()) > best_distance) continue;
    const std::size_t distance = edit_distance(word, candidate);
    if (distance >= longer) continue;  // nothing in common, as for words of one letter
    if (distance < best_distance || (distance == best_distance && !best)) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  const std::optional<std::string> found = nearest(word, candidates);
  return found ? fmt::format(" Did you mean '{}'?", *found) : "";
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t column = 0; column < row.size(); ++column) {
      widths[column] = std::max(widths[column], width(row[column]));
    }
  }
  std::string text;
  for (const auto& row : rows) text += join_row(row, widths);
  return text;
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || std::abs(seconds) > 1e12) return "?";
  if (seconds < 0) return "-" + format_duration(-seconds);
  if (seconds < 0.9995) return fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  const std::int64_t days = whole / 86400, hours = whole / 3600 % 24, minutes = whole / 60 % 60;
  if (days > 0) return fmt::format("{}d {:02}:{:02}", days, hours, minutes);
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60);
  return fmt::format("{}:{:02}", minutes, whole % 60);
}

std::string format_count(double count) {
  if (!std::isfinite(count)) return "?";
  if (count < 0) return "-" + format_count(-count);
  if (count < 999'999.5) {
    std::string digits = fmt::format("{:.0f}", count);
    for (std::size_t end = digits.size(); end > 3; end -= 3) digits.insert(end - 3, ",");
    return digits;
  }
  constexpr std::array kUnits = {"M", "G", "T"};
  std::size_t unit = 0;
  for (count /= 1e6; count >= 999.95 && unit + 1 < kUnits.size(); count /= 1e3) ++unit;
  return fmt::format("{:.1f} {}", count, kUnits[unit]);
}

std::string format_bytes(double bytes) {
  if (!std::isfinite(bytes)) return "?";
  if (bytes < 0) return "-" + format_bytes(-bytes);
  if (bytes < 1023.5) return fmt::format("{:.0f} B", bytes);
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  for (bytes /= 1024; bytes >= 1023.95 && unit + 1 < kUnits.size(); bytes /= 1024) ++unit;
  return fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

namespace {

struct DurationUnit {
  std::string_view suffix;
  std::int64_t milliseconds;
};
constexpr std::array<DurationUnit, 5> kDurationUnits = {
    {{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};
constexpr double kLongestMilliseconds = 1e15;  // 30,000 years; keeps sums of durations far from overflow

}  // namespace

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number) || std::signbit(number)) return std::nullopt;
  const std::string_view suffix(rest, static_cast<std::size_t>(end - rest));
  for (const DurationUnit& unit : kDurationUnits) {
    if (suffix != unit.suffix && !(suffix.empty() && unit.suffix == "s")) continue;
    const double milliseconds = number * static_cast<double>(unit.milliseconds);
    if (milliseconds > kLongestMilliseconds) return std::nullopt;
    return std::chrono::milliseconds(std::llround(milliseconds));
  }
  return std::nullopt;
}

std::string duration_text(std::chrono::milliseconds duration) {
  if (duration.count() == 0) return "0s";
  for (const DurationUnit& unit : kDurationUnits) {
    if (duration.count() % unit.milliseconds == 0) {
      return fmt::format("{}{}", duration.count() / unit.milliseconds, unit.suffix);
    }
  }
  return fmt::format("{}ms", duration.count());
}

}  // namespace cosub
