#include "worker/tools/data_stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/text.h"
#include "worker/data/source.h"
#include "worker/data/storage/class_map.h"
#include "worker/tools/number_check.h"
#include "worker/tools/progress_line.h"

namespace cosub::tools {
namespace {

using Json = nlohmann::ordered_json;
using Rows = std::vector<std::vector<std::string>>;

constexpr const char* kStatsFooter =
    "Reads every image's header, and decodes --samples of them, drawn at random, for mean and std: those of\n"
    "whole images with values in 0 to 1, each image counting the same whatever its size. They are what\n"
    "data.mean and data.std of a pipeline want. `cosub data verify` decodes all, and so finds every bad "
    "one.\n"
    "\n"
    "Example: cosub data stats --folder /data/imagenet/train";

struct ClassCount {
  std::int64_t number = 0, samples = 0;
};

/// Classes without a sample are apart.
struct Classes {
  std::int64_t count = 0, num_empty = 0;
  std::vector<ClassCount> by_samples;     // ascending
  std::vector<std::int64_t> first_empty;  // the first few of them

  const ClassCount& smallest() const { return by_samples.front(); }
  const ClassCount& median() const { return by_samples[(by_samples.size() - 1) / 2]; }
  const ClassCount& largest() const { return by_samples.back(); }
};

Classes classes_of(const data::SetStats& stats, std::size_t num_names) {
  Classes classes;
  for (const auto& [number, samples] : stats.classes) classes.by_samples.push_back({number, samples});
  std::ranges::stable_sort(classes.by_samples, {}, &ClassCount::samples);
  const std::int64_t last = stats.classes.empty() ? -1 : stats.classes.rbegin()->first;
  classes.count = std::max(last + 1, static_cast<std::int64_t>(num_names));
  classes.num_empty = classes.count - static_cast<std::int64_t>(stats.classes.size());
  const std::size_t most = std::min(kMostNamed, static_cast<std::size_t>(classes.num_empty));
  for (std::int64_t number = 0; classes.first_empty.size() < most; ++number) {
    if (!stats.classes.contains(number)) classes.first_empty.push_back(number);
  }
  return classes;
}

std::string name_of(std::int64_t number, const std::vector<std::string>& names) {
  const auto index = static_cast<std::size_t>(number);
  return index < names.size() ? fmt::format("{} (class {})", names[index], number)
                              : fmt::format("class {}", number);
}

/// "and 3 more" where `count` are more than can be named.
std::string rest_of(std::int64_t count) {
  const std::int64_t rest = count - static_cast<std::int64_t>(kMostNamed);
  return rest > 0 ? fmt::format("and {} more\n", format_count(rest)) : "";
}

std::string counts_text(const std::map<std::string, std::int64_t>& counts) {
  std::string text;
  for (const auto& [name, number] : counts)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, format_count(number));
  return text;
}

std::string class_text(const Classes& classes, const std::vector<std::string>& names) {
  Rows rows = {{"class", "samples", "name"}};
  const auto add = [&](const char* what, const ClassCount& one) {
    rows.push_back({what, format_count(one.samples), name_of(one.number, names)});
  };
  add("smallest", classes.smallest());
  add("median", classes.median());
  add("largest", classes.largest());
  std::string text = table(rows);
  for (const std::int64_t number : classes.first_empty) text += "empty: " + name_of(number, names) + "\n";
  return text + rest_of(classes.num_empty);
}

std::string size_text(const data::SetStats& stats) {
  Rows rows = {{"size", "min", "median", "max"}};
  const auto add = [&](const char* what, const data::Spread& spread, int digits) {
    const auto number = [&](double value) {
      return digits == 0 ? format_count(value) : fmt::format("{:.{}f}", value, digits);
    };
    rows.push_back({what, number(spread.min), number(spread.median), number(spread.max)});
  };
  add("width px", stats.width_px, 0);
  add("height px", stats.height_px, 0);
  add("shorter side px", stats.shorter_px, 0);
  add("megapixels", stats.megapixels, 3);
  add("bytes", stats.bytes, 0);
  return table(rows);
}

std::string numbers_text(const std::vector<double>& numbers) {
  std::string text;
  for (const double number : numbers) text += fmt::format("{}{:.4f}", text.empty() ? "" : ", ", number);
  return "[" + text + "]";
}

/// Counts without a decimal point.
Json number(double value) {
  return value == std::floor(value) ? Json(static_cast<std::int64_t>(value)) : Json(value);
}

Json to_json(const data::Spread& spread) {
  return {{"min", number(spread.min)}, {"median", number(spread.median)}, {"max", number(spread.max)}};
}

Json to_json(const ClassCount& one, const std::vector<std::string>& names) {
  Json json = {{"class", one.number}, {"samples", one.samples}};
  if (static_cast<std::size_t>(one.number) < names.size()) json["name"] = names[one.number];
  return json;
}

}  // namespace

std::string stats_text(const data::SetStats& stats, const std::vector<std::string>& names) {
  const Classes classes = classes_of(stats, names.size());
  std::string text = fmt::format(
      "samples   {}, {} of them unreadable\nclasses   {}, {} of them empty\nformats   {}\nchannels  {}\n"
      "bytes     {} in all\n\n",
      format_count(stats.samples), format_count(stats.unreadable.size()), format_count(classes.count),
      format_count(classes.num_empty), counts_text(stats.formats), counts_text(stats.channels),
      format_bytes(static_cast<double>(stats.total_bytes)));
  text += class_text(classes, names) + "\n" + size_text(stats) + "\n";
  if (stats.pixel_samples > 0) {
    text += fmt::format(
        "pixels of {} whole images, in 0 to 1, each image counting the same:\nmean: {}\nstd: {}\n",
        format_count(stats.pixel_samples), numbers_text(stats.mean), numbers_text(stats.std));
  }
  const std::size_t named = std::min(kMostNamed, stats.unreadable.size());
  if (named > 0) text += "\n";
  for (std::size_t i = 0; i < named; ++i) text += "unreadable: " + stats.unreadable[i] + "\n";
  return text + rest_of(static_cast<std::int64_t>(stats.unreadable.size()));
}

std::string stats_json(const data::SetStats& stats, const std::vector<std::string>& names) {
  const Classes classes = classes_of(stats, names.size());
  Json bytes = to_json(stats.bytes);
  bytes["total"] = stats.total_bytes;
  const Json json = {
      {"samples", stats.samples},
      {"unreadable", stats.unreadable},
      {"classes",
       {{"count", classes.count},
        {"smallest", to_json(classes.smallest(), names)},
        {"median", to_json(classes.median(), names)},
        {"largest", to_json(classes.largest(), names)},
        {"empty", {{"count", classes.num_empty}, {"first", classes.first_empty}}}}},
      {"formats", stats.formats},
      {"channels", stats.channels},
      {"width_px", to_json(stats.width_px)},
      {"height_px", to_json(stats.height_px)},
      {"shorter_px", to_json(stats.shorter_px)},
      {"megapixels", to_json(stats.megapixels)},
      {"bytes", bytes},
      {"pixels", {{"samples", stats.pixel_samples}, {"mean", stats.mean}, {"std", stats.std}}}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void add_data_stats(CLI::App& data, std::function<ExitCode()>& chosen) {
  auto options = std::make_shared<DataStatsOptions>();
  options->stats.threads = std::max<std::int64_t>(1, std::thread::hardware_concurrency());
  CLI::App* sub = data.add_subcommand("stats", "Classes, formats, sizes, mean and std of a set of images");
  add_source(*sub, options->source);
  sub->add_option("--samples", options->stats.pixel_samples, "decoded for mean and std; 0: all")
      ->check(whole_at_least(0))
      ->capture_default_str();
  sub->add_option("--threads", options->stats.threads)->check(whole_at_least(1))->capture_default_str();
  sub->add_flag("--json", options->json, "one JSON object instead of tables");
  sub->footer(kStatsFooter);
  sub->callback([options, &chosen] { chosen = [options] { return run_data_stats(*options); }; });
}

ExitCode run_data_stats(const DataStatsOptions& options) {
  const config::SourceConfig config = options.source.get_named();
  data::SetStats stats;
  {
    ProgressLine line("stats");
    const auto source = data::open_source(config, 0, data::kAnyLabel);
    stats = data::collect_stats(*source, options.stats, [&](std::int64_t done) {
      line.show({.done = done, .of = source->size(), .done_now = done});
    });
  }
  const std::vector<std::string> names = data::class_names(config);
  const std::string text = options.json ? stats_json(stats, names) : stats_text(stats, names);
  fmt::print("{}", text);
  return ExitCode::kDone;
}

}  // namespace cosub::tools
