#include "worker/tools/arch_option.h"

#include <algorithm>
#include <string_view>

#include "common/config/schema.h"
#include "worker/model/families.h"

namespace cosub::tools {
namespace {

bool is_key_of_any_family(const std::string& key) {
  const auto& rows = config::model_fields().shape().rows;
  const auto arch = std::ranges::find(rows, "arch", &config::ShapeRow::key);
  return std::ranges::count(arch->shape->rows, key, &config::ShapeRow::key) > 0;
}

/// The family itself refuses the key, with those that it knows.
void refuse_key(const std::string& model_name, const std::string& key) {
  config::ModelConfig config;
  config.name = model_name;
  config.arch[key] = std::int64_t{0};
  model::family_of(model_name).create(config);
}

}  // namespace

CLI::Option* add_arch(CLI::App& app, std::vector<std::string>& entries) {
  return app
      .add_option("--arch", entries,
                  "override of the named model, repeatable: depth=6, layers=2,2,1,1, stem_type=deep")
      ->delimiter('\0');
}

void set_arch(config::ModelConfig& config, const std::vector<std::string>& entries) {
  with_arch_option([&] {
    for (const std::string& entry : entries) {
      const std::string key = entry.substr(0, entry.find('='));
      if (key.size() < entry.size() && !key.empty() && !is_key_of_any_family(key))
        refuse_key(config.name, key);
      config::set_arch_key(config.arch, entry);
    }
  });
}

std::string said_of_arch_option(std::string message) {
  for (const std::string_view other : {"--set arch.", "model.arch."}) {
    for (std::size_t at = message.find(other); at != std::string::npos; at = message.find(other, at))
      message.replace(at, other.size(), "--arch ");
  }
  return message;
}

}  // namespace cosub::tools
