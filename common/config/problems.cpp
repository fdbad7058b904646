#include "common/config/problems.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "common/error.h"

namespace cosub::config {
namespace {

std::string prefix(const Place& place, const std::string& path) {
  if (!place.source) return path.empty() ? "" : path + ": ";
  if (place.source->from_set) {
    const std::string key = path == place.source->name || path.empty() ? "" : path + ": ";
    return fmt::format("--set {}: {}", place.source->name, key);
  }
  const std::string key = path.empty() ? "" : path + ": ";
  if (place.line == 0) return fmt::format("{}: {}", place.source->name, key);
  return fmt::format("{}:{}:{}: {}", place.source->name, place.line, place.column, key);
}

}  // namespace

std::string quoted(const std::string& text) {
  constexpr std::size_t kLongest = 80;
  std::string short_text = text.substr(0, kLongest);
  for (char& letter : short_text) {
    if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) letter = '?';
  }
  return "'" + short_text + (text.size() > kLongest ? "...'" : "'");
}

std::string shown(const Tree& node) {
  switch (node.kind) {
    case Tree::Kind::kNothing:
      return "nothing";
    case Tree::Kind::kScalar:
      return quoted(node.scalar);
    case Tree::Kind::kList:
      return "a list";
    case Tree::Kind::kMap:
      return "a mapping";
  }
  return "";
}

void Problems::add(const Place& place, const std::string& path, const std::string& what) {
  paths_.insert(path);
  std::string text = prefix(place, path) + what;
  if (texts_.insert(text).second) problems_.push_back({place, std::move(text)});
}

void Problems::refuse(const Tree& node, const std::string& allowed, const std::string& hint) {
  add(node.place, node.path, fmt::format("found {}; allowed: {}.{}", shown(node), allowed, hint));
}

std::string Problems::text() const {
  std::vector<Problem> sorted = problems_;
  const auto key = [](const Problem& problem) {
    static const Source kNone;
    const Source& source = problem.place.source ? *problem.place.source : kNone;
    return std::make_tuple(source.from_set, std::string_view(source.name), problem.place.line,
                           problem.place.column);
  };
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](const Problem& a, const Problem& b) { return key(a) < key(b); });
  std::string message;
  for (const Problem& problem : sorted) message += (message.empty() ? "" : "\n") + problem.text;
  return message;
}

void Problems::throw_if_any() const {
  if (!problems_.empty()) throw ConfigError(text());
}

}  // namespace cosub::config
