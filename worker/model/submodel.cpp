// Which blocks drop, how often, and which ones a named submodel keeps.
#include <fmt/format.h>

#include <charconv>

#include "common/config/kept_rows.h"
#include "common/error.h"
#include "common/text.h"
#include "worker/model/families.h"

namespace cosub::model {
namespace {

DepthMode mode_of(const config::ModelConfig& config) {
  return config.stochastic_depth == config::StochasticDepth::kFixed ? DepthMode::kFixed
                                                                    : DepthMode::kBernoulli;
}

std::vector<double> wanted_rates(const config::ModelConfig& config, std::int64_t num_blocks) {
  std::vector<double> rates(static_cast<std::size_t>(num_blocks), config.drop_rate);
  const config::DropRateRule rule = config.drop_rate_rule.value_or(family_of(config.name).drop_rate_rule);
  if (rule == config::DropRateRule::kLinear) {
    const double last = static_cast<double>(std::max<std::int64_t>(num_blocks - 1, 1));
    for (std::size_t i = 0; i < rates.size(); ++i)
      rates[i] = config.drop_rate * static_cast<double>(i) / last;
  }
  return rates;
}

std::string range_text(std::size_t first, std::size_t last) {
  return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
}

std::int64_t parse_index(std::string_view text, const std::string& keep) {
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    throw ConfigError(
        fmt::format("keep: '{}' is none of all, even, odd, first:N, last:N or block indices such as "
                    "0,2,5",
                    keep));
  }
  return value;
}

void keep_listed(const std::string& keep, std::vector<bool>& kept) {
  std::string_view rest = keep;
  while (true) {
    const std::size_t comma = rest.find(',');
    const std::int64_t index = parse_index(rest.substr(0, comma), keep);
    if (index >= static_cast<std::int64_t>(kept.size())) {
      throw ConfigError(fmt::format("keep: '{}' names block {}, but the model's blocks are 0 to {}", keep,
                                    index, kept.size() - 1));
    }
    kept[static_cast<std::size_t>(index)] = true;
    if (comma == std::string_view::npos) return;
    rest.remove_prefix(comma + 1);
  }
}

}  // namespace

void set_drop_rates(Backbone& backbone) {
  backbone.seam().set_drop_rates(wanted_rates(backbone.config(), backbone.seam().num_blocks()));
}

std::vector<double> training_scales(const Backbone& backbone, std::int64_t images) {
  std::vector<double> scales;
  for (const BranchInfo& branch : backbone.seam().branches()) {
    if (branch.block != static_cast<std::int64_t>(scales.size())) continue;  // the first branch of each block
    scales.push_back(1.0 / (1.0 - effective_drop_rate(branch.drop_rate, mode_of(backbone.config()), images)));
  }
  return scales;
}

std::string check_drop_rates(Backbone& backbone, std::int64_t images) {
  set_drop_rates(backbone);
  const config::ModelConfig& config = backbone.config();
  const std::vector<double> wanted = wanted_rates(config, backbone.seam().num_blocks());
  std::vector<std::vector<std::string>> rows = {{"blocks", "drop rate", "effective", "kept rows"}};
  std::string refused;
  for (std::size_t first = 0, last = 0; first < wanted.size(); first = last + 1) {
    for (last = first; last + 1 < wanted.size() && wanted[last + 1] == wanted[first];) ++last;
    const double effective = effective_drop_rate(wanted[first], mode_of(config), images);
    const double kept = (1.0 - effective) * static_cast<double>(images);
    rows.push_back({range_text(first, last), fmt::format("{:.4g}", wanted[first]),
                    fmt::format("{:.4f}", effective), fmt::format("{:.4g} of {}", kept, images)});
    if (config::is_rounded_too_far(wanted[first], effective)) {
      refused += fmt::format("\n  blocks {}: wanted {:.4g}, would be {:.4f} ({:.4g} of {} rows kept)",
                             range_text(first, last), wanted[first], effective, kept, images);
    }
  }
  if (!refused.empty() && !config.allow_rounded_drop_rate) {
    throw ConfigError(
        fmt::format("model.drop_rate: with microbatches of {} images whole rows cannot come close to "
                    "the drop rate:{}\nRaise batch.micro, choose another drop_rate, set "
                    "model.stochastic_depth: bernoulli, or model.allow_rounded_drop_rate: true.",
                    images, refused));
  }
  return table(rows);
}

std::vector<bool> parse_keep(const std::string& keep, std::int64_t num_blocks) {
  const auto blocks = static_cast<std::size_t>(num_blocks);
  std::vector<bool> kept(blocks, keep == "all");
  const bool first = keep.starts_with("first:"), last = keep.starts_with("last:");
  if (keep == "even" || keep == "odd") {
    for (std::size_t i = keep == "odd" ? 1 : 0; i < blocks; i += 2) kept[i] = true;
  } else if (first || last) {
    const std::int64_t count = parse_index(std::string_view(keep).substr(keep.find(':') + 1), keep);
    if (count > num_blocks) {
      throw ConfigError(
          fmt::format("keep: '{}' asks for {} blocks, but the model has {}", keep, count, num_blocks));
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) kept[first ? i : blocks - 1 - i] = true;
  } else if (keep != "all") {
    keep_listed(keep, kept);
  }
  return kept;
}

}  // namespace cosub::model
