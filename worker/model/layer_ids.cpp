// Layer-wise learning-rate decay: which parameters share a layer.
#include <limits>
#include <regex>

#include "worker/model/model.h"

namespace cosub::model {
namespace {

using Key = std::vector<double>;  // ascending over the depth of the network

struct CompiledPattern {
  std::regex regex;
  LayerPattern pattern;
};

Key key_of(const std::string& name, const std::vector<CompiledPattern>& patterns) {
  for (const auto& [regex, pattern] : patterns) {
    std::smatch match;
    if (!std::regex_search(name, match, regex, std::regex_constants::match_continuous)) continue;
    Key key = {static_cast<double>(pattern.order)};
    for (std::size_t i = 1; i < match.size(); ++i) key.push_back(std::stod(match[i].str()));
    if (pattern.suffix) key.push_back(*pattern.suffix);
    return key;
  }
  return {std::numeric_limits<double>::infinity()};  // the classifier and what stands beside it
}

}  // namespace

std::map<std::string, std::int64_t> layer_ids(const Backbone& backbone) {
  std::vector<CompiledPattern> patterns;
  for (const LayerPattern& pattern : backbone.layer_patterns())
    patterns.push_back({std::regex(pattern.regex), pattern});
  std::map<Key, std::vector<std::string>> names_by_key;
  for (const auto& item : backbone.named_parameters()) {
    names_by_key[key_of(item.key(), patterns)].push_back(item.key());
  }
  std::map<std::string, std::int64_t> ids;
  std::int64_t id = -1;
  for (const auto& [key, names] : names_by_key) {
    if (id < 0 || key.back() != kWithPrevious) ++id;
    for (const std::string& name : names) ids[name] = id;
  }
  return ids;
}

}  // namespace cosub::model
