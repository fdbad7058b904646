#include "worker/data/image/rand_augment.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>

#include "common/error.h"
#include "worker/data/image/photometric.h"

namespace cosub::data {
namespace {

constexpr double kLevels = 10;  // timm's unit of magnitude
constexpr int kSolarizeAddThreshold = 128;

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
      if (config_.magnitude_max == 0) config_.magnitude_max = kLevels;  // as timm
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

double draw_magnitude(const RandAugmentConfig& config, KeyedRandom& random) {
  double magnitude = config.magnitude;
  if (std::isinf(config.magnitude_std)) {
    magnitude *= random.uniform();
  } else if (config.magnitude_std > 0) {
    magnitude += config.magnitude_std * random.normal();
  }
  return std::clamp(magnitude, 0.0, config.magnitude_max);
}

}  // namespace

RandAugmentConfig parse_rand_augment(std::string_view text) {
  return Parser(text).parse();
}

DrawnOp op_at(RandOp op, double magnitude, bool negative) {
  const double level = magnitude / kLevels, sign = negative ? -1 : 1;
  switch (op) {
    case RandOp::kAutoContrast:
    case RandOp::kEqualize:
    case RandOp::kInvert:
      return {op, 0};
    case RandOp::kRotate:
      return {op, sign * level * 30};
    case RandOp::kPosterize:
      return {op, 4 - std::trunc(level * 4)};
    case RandOp::kSolarize:
      return {op, 256 - std::min(256.0, std::trunc(level * 256))};
    case RandOp::kSolarizeAdd:
      return {op, std::min(128.0, std::trunc(level * 110))};
    case RandOp::kColor:
    case RandOp::kContrast:
    case RandOp::kBrightness:
    case RandOp::kSharpness:
      return {op, std::max(0.1, 1 + sign * level * 0.9)};
    case RandOp::kShearX:
    case RandOp::kShearY:
      return {op, sign * level * 0.3};
    case RandOp::kTranslateX:
    case RandOp::kTranslateY:
      return {op, sign * level * 0.45};
  }
  throw std::logic_error("op_at: no such op");
}

std::vector<DrawnOp> draw_rand_augment(const RandAugmentConfig& config, KeyedRandom& random) {
  std::vector<DrawnOp> drawn;
  for (int i = 0; i < config.num_ops; ++i) {
    const auto op = static_cast<RandOp>(random.uniform_int(kNumRandOps));
    const bool comes_up = random.uniform() < config.probability;
    const double magnitude = draw_magnitude(config, random);
    const bool negative = random.uniform() < 0.5;
    if (comes_up) drawn.push_back(op_at(op, magnitude, negative));
  }
  return drawn;
}

void apply(const DrawnOp& drawn, const Warp& warp, Image& image, Image& scratch) {
  const double argument = drawn.argument;
  const int whole = static_cast<int>(argument);
  switch (drawn.op) {
    case RandOp::kAutoContrast:
      return autocontrast(image);
    case RandOp::kEqualize:
      return equalize(image);
    case RandOp::kInvert:
      return invert(image);
    case RandOp::kRotate:
      return rotate(image, argument, warp, scratch);
    case RandOp::kPosterize:
      return posterize(image, std::max(0, whole));
    case RandOp::kSolarize:
      return solarize(image, whole);
    case RandOp::kSolarizeAdd:
      return solarize_add(image, whole, kSolarizeAddThreshold);
    case RandOp::kColor:
      return adjust_color(image, argument);
    case RandOp::kContrast:
      return adjust_contrast(image, argument);
    case RandOp::kBrightness:
      return adjust_brightness(image, argument);
    case RandOp::kSharpness:
      return adjust_sharpness(image, argument, scratch);
    case RandOp::kShearX:
      return shear_x(image, argument, warp, scratch);
    case RandOp::kShearY:
      return shear_y(image, argument, warp, scratch);
    case RandOp::kTranslateX:
      return translate_x(image, argument, warp, scratch);
    case RandOp::kTranslateY:
      return translate_y(image, argument, warp, scratch);
  }
}

}  // namespace cosub::data
