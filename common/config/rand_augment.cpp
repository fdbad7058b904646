#include "common/config/rand_augment.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>
#include <string>

#include "common/error.h"

namespace cosub::config {
namespace {

/// The sections of one string, read one by one.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  RandAugmentConfig parse() {
    std::size_t end = text_.find('-');
    if (text_.substr(0, end) != "rand") throw error(text_.substr(0, end), "the first part must be rand");
    while (end != std::string_view::npos) {
      const std::size_t begin = end + 1;
      end = text_.find('-', begin);
      take(text_.substr(begin, end == std::string_view::npos ? end : end - begin));
    }
    if (!increasing_) throw error("", "inc1 is missing: only timm's increasing ops are there");
    return config_;
  }

 private:
  void take(std::string_view section) {
    const std::size_t digits = std::min(section.find_first_of("0123456789"), section.size());
    const std::string_view key = section.substr(0, digits), value = section.substr(digits);
    if (!seen_.insert(key).second) throw error(section, "it is there twice");
    if (key == "m") {
      config_.magnitude = whole(section, value);
    } else if (key == "n") {
      config_.num_ops = whole(section, value);
      if (config_.num_ops < 1 || config_.num_ops > 100) throw error(section, "n is 1 to 100");
    } else if (key == "p") {
      config_.probability = number<double>(section, value);
      if (config_.probability > 1) throw error(section, "a probability is at most 1");
    } else if (key == "mstd") {
      config_.magnitude_std = number<double>(section, value);
      if (config_.magnitude_std > 100) config_.magnitude_std = std::numeric_limits<double>::infinity();
    } else if (key == "mmax") {
      config_.magnitude_max = whole(section, value);
      if (config_.magnitude_max == 0) config_.magnitude_max = 10;  // as timm
    } else if (key == "inc") {
      increasing_ = whole(section, value) != 0;
    } else {
      throw error(section, "known are m, n, p, mstd, mmax and inc, each with a number");
    }
  }

  template <typename Number>
  Number number(std::string_view section, std::string_view value) const {
    Number result{};
    const char* end = value.data() + value.size();
    const auto [stop, code] = std::from_chars(value.data(), end, result);
    if (code != std::errc() || stop != end) throw error(section, "its number cannot be read");
    return result;
  }
  int whole(std::string_view section, std::string_view value) const { return number<int>(section, value); }

  ConfigError error(std::string_view section, const std::string& why) const {
    const std::string where = section.empty() ? "" : fmt::format(" at '{}'", section);
    return ConfigError(
        fmt::format("RandAugment '{}'{}: {}; for example rand-m9-mstd0.5-inc1", text_, where, why));
  }

  std::string_view text_;
  RandAugmentConfig config_;
  std::set<std::string_view> seen_;
  bool increasing_ = false;
};

}  // namespace

RandAugmentConfig parse_rand_augment(std::string_view text) {
  return Parser(text).parse();
}

}  // namespace cosub::config
