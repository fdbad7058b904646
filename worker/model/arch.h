// A row of a family's table and the keys that override it. A row is a plain struct whose fields are timm's
// keyword arguments; it lists them once, in
//   template <class Row, class Visit> static void each_key(Row& row, const Visit& visit) { visit("depth",
//   row.depth); ... }
// and from that follow the overrides (model.arch, --arch), what is refused, and model_args of timm's
// config.json.
#pragma once

#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/config/pipeline.h"
#include "common/error.h"
#include "common/text.h"

namespace cosub::model {

/// Puts an override into a row's field. A list may be given for a list only; false where the types do not
/// fit.
bool assign(bool& field, const config::ArchValue& value);
bool assign(std::int64_t& field, const config::ArchValue& value);
bool assign(double& field, const config::ArchValue& value);
bool assign(std::string& field, const config::ArchValue& value);
bool assign(std::vector<std::int64_t>& field, const config::ArchValue& value);

/// The row with config.arch's overrides. ConfigError naming the key that the family does not know, or whose
/// value is of another form than its field.
template <class Arch>
Arch overridden(Arch arch, const config::ModelConfig& config) {
  std::vector<std::string> known;
  Arch::each_key(arch, [&](const char* key, auto& field) {
    known.emplace_back(key);
    const auto given = config.arch.find(key);
    if (given == config.arch.end() || assign(field, given->second)) return;
    throw ConfigError(
        fmt::format("model.arch.{}: {} wants {} here, as in {}", key, config.name,
                    std::is_arithmetic_v<std::decay_t<decltype(field)>> ? "one value" : "a list",
                    nlohmann::json(field).dump()));
  });
  for (const auto& [key, value] : config.arch) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    throw ConfigError(fmt::format("model.arch.{}: not a key of {}.{} It knows {}", key, config.name,
                                  did_you_mean(key, known), fmt::join(known, ", ")));
  }
  return arch;
}

/// All fields of a row as timm's model_args.
template <class Arch>
nlohmann::json timm_args(const Arch& arch) {
  nlohmann::json args = nlohmann::json::object();
  Arch::each_key(arch, [&](const char* key, const auto& field) { args[key] = field; });
  return args;
}

/// The names of a table, for Family::models.
template <class Arch>
std::vector<std::string> names_of(const std::map<std::string, Arch>& table) {
  std::vector<std::string> names;
  for (const auto& [name, arch] : table) names.push_back(name);
  return names;
}

/// ConfigError unless `values` has one positive number for each of `num_stages`.
void check_per_stage(const config::ModelConfig& config, const char* key,
                     const std::vector<std::int64_t>& values, std::size_t num_stages);

/// ConfigError naming the nearest sizes unless the image's side is a multiple of `multiple`, at least once.
void check_image_multiple(const config::ModelConfig& config, std::int64_t multiple, const char* what);

/// ConfigError unless `heads` divides `dim`.
void check_heads(const config::ModelConfig& config, std::int64_t dim, std::int64_t heads);

}  // namespace cosub::model
