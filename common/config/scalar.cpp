#include "common/config/scalar.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <system_error>

namespace cosub::config {
namespace {

template <class T>
std::optional<T> read_number(std::string_view text) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  T value{};
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || rest != text.data() + text.size()) return std::nullopt;
  return value;
}

bool reads_as_something_else(std::string_view text) {
  constexpr std::array kWords = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  const bool is_word = std::find(kWords.begin(), kWords.end(), lower) != kWords.end();
  return is_word || std::isdigit(static_cast<unsigned char>(text[0])) || text[0] == '.';
}

}  // namespace

std::optional<double> read_double(std::string_view text) {
  const std::optional<double> value = read_number<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::optional<std::int64_t> read_int(std::string_view text) {
  return read_number<std::int64_t>(text);
}

std::optional<std::uint64_t> read_unsigned(std::string_view text) {
  return read_number<std::uint64_t>(text);
}

std::optional<bool> read_flag(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

std::string double_text(double value) {
  std::array<char, 32> buffer;
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return error == std::errc() ? std::string(buffer.data(), end) : "0";
}

std::string yaml_scalar(const std::string& text) {
  const auto is_plain = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '.' || c == '/' || c == '-';
  };
  const bool plain = !text.empty() && text[0] != '-' && std::all_of(text.begin(), text.end(), is_plain);
  if (plain && !reads_as_something_else(text)) return text;
  // JSON's escapes are YAML's; bytes that are no UTF-8 cannot be written in YAML at all.
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace cosub::config
