#include "worker/tools/class_pixels.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace cosub::tools {
namespace {

constexpr std::size_t kFew = 5;         // rows from each end of the table
constexpr std::size_t kMostNamed = 20;  // classes without a pixel

struct Row {
  std::int64_t class_number = 0, pixels = 0;
};

/// The most frequent first, the lower number first where two are equal.
std::vector<Row> rows_of(const PixelsOfValues& pixels, const data::MaskClasses& classes) {
  std::vector<Row> rows;
  for (std::size_t i = 0; i < PixelsOfValues::kValues; ++i) {
    const auto value = static_cast<std::uint16_t>(i);
    if (pixels[i] > 0 && !classes.is_ignored(value)) rows.push_back({classes.class_of(value), pixels[i]});
  }
  std::ranges::stable_sort(rows, std::ranges::greater(), &Row::pixels);
  return rows;
}

/// Empty where no number of classes is given, which allows any.
std::string absent_classes(const std::vector<Row>& rows, std::int64_t num_classes) {
  const auto absent = num_classes - static_cast<std::int64_t>(rows.size());
  if (num_classes > static_cast<std::int64_t>(PixelsOfValues::kValues) || absent == 0) return "";
  std::vector<bool> is_there(num_classes);
  for (const Row& row : rows) is_there[row.class_number] = true;
  std::vector<std::int64_t> named;
  for (std::int64_t c = 0; c < num_classes && named.size() < kMostNamed; ++c) {
    if (!is_there[c]) named.push_back(c);
  }
  return fmt::format("no pixel: {} of {} classes ({}{})\n", absent, num_classes, fmt::join(named, ", "),
                     absent > static_cast<std::int64_t>(named.size()) ? ", ..." : "");
}

}  // namespace

void PixelsOfValues::add(const data::Mask& mask) {
  for (std::int64_t i = 0; i < mask.size(); ++i) ++counts_[mask.values[i]];
}

void PixelsOfValues::add(const PixelsOfValues& other) {
  for (std::size_t value = 0; value < kValues; ++value) counts_[value] += other.counts_[value];
}

std::string class_table(const PixelsOfValues& pixels, const data::MaskClasses& classes) {
  const std::vector<Row> rows = rows_of(pixels, classes);
  std::int64_t all = 0, of_classes = 0;
  for (std::size_t value = 0; value < PixelsOfValues::kValues; ++value) all += pixels[value];
  for (const Row& row : rows) of_classes += row.pixels;
  if (all == 0) return "";
  const auto percent = [](std::int64_t part, std::int64_t whole) {
    return 100 * static_cast<double>(part) / static_cast<double>(whole);
  };
  std::string text =
      fmt::format("{} pixels, {:.2f} % ignored; {} classes occur{}\n", all, percent(all - of_classes, all),
                  rows.size(), classes.zero_is_ignored ? " (class 0 is the masks' value 1)" : "");
  if (!rows.empty()) text += fmt::format("{:>8} {:>16} {:>11}\n", "class", "pixels", "share");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows.size() > 2 * kFew + 1 && i == kFew) {
      text += fmt::format("{:>8}\n", "...");
      i = rows.size() - kFew;
    }
    text += fmt::format("{:>8} {:>16} {:>9.4f} %\n", rows[i].class_number, rows[i].pixels,
                        percent(rows[i].pixels, of_classes));
  }
  return text + absent_classes(rows, classes.num_classes);
}

}  // namespace cosub::tools
