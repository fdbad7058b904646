// Small text helpers that several parts need: nearest known word, plain tables, numbers for people.
#pragma once

#include <chrono>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cosub {

/// The candidate with the smallest edit distance to `word` (optimal string alignment), if it is near enough
/// to be a plausible slip (distance <= max(1, length / 3)); before these, one that is known by this other
/// name (cuda for gpu).
std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates);

/// " Did you mean 'x'?" or "".
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

/// Rows of cells as aligned columns, first row the heading, numbers (cells that parse as such) right-aligned.
/// Widths count UTF-8 code points.
std::string table(const std::vector<std::vector<std::string>>& rows);

std::string format_duration(double seconds);  // "1.2 s", "3:05", "2:03:05", "1d 02:03"
std::string format_count(double count);       // "1,234", "12.3 M"
template <std::integral T>
std::string format_count(T count) {
  return format_count(static_cast<double>(count));
}
std::string format_bytes(double bytes);  // "1.2 GiB"

/// "250ms", "30s", "15m", "24h", "2d" (or a plain number of seconds); nullopt when it is none of them.
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);
std::string duration_text(std::chrono::milliseconds duration);  // parses back

}  // namespace cosub
