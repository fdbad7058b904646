#include "worker/model/arch.h"

namespace cosub::model {
namespace {

template <class T>
bool assign_same(T& field, const config::ArchValue& value) {
  const T* const same = std::get_if<T>(&value);
  if (same != nullptr) field = *same;
  return same != nullptr;
}

}  // namespace

bool assign(bool& field, const config::ArchValue& value) {
  return assign_same(field, value);
}
bool assign(std::int64_t& field, const config::ArchValue& value) {
  return assign_same(field, value);
}
bool assign(double& field, const config::ArchValue& value) {
  const auto* const whole = std::get_if<std::int64_t>(&value);
  if (whole != nullptr) field = static_cast<double>(*whole);
  return whole != nullptr || assign_same(field, value);
}
bool assign(std::string& field, const config::ArchValue& value) {
  return assign_same(field, value);
}
bool assign(std::vector<std::int64_t>& field, const config::ArchValue& value) {
  return assign_same(field, value);
}

void check_per_stage(const config::ModelConfig& config, const char* key,
                     const std::vector<std::int64_t>& values, std::size_t num_stages) {
  if (values.size() == num_stages && *std::min_element(values.begin(), values.end()) > 0) return;
  throw ConfigError(
      fmt::format("model.arch.{}: {} has {} stages and needs a positive number for each; found {}", key,
                  config.name, num_stages, nlohmann::json(values).dump()));
}

void check_image_multiple(const config::ModelConfig& config, std::int64_t multiple, const char* what) {
  const std::int64_t size = config.image_size, below = size / multiple * multiple;
  if (below == size) return;
  const std::string nearest =
      below == 0 ? std::to_string(multiple) : fmt::format("{} or {}", below, below + multiple);
  throw ConfigError(fmt::format("model.image_size: {} is not a multiple of {} {}; nearest: {}", size, what,
                                multiple, nearest));
}

void check_heads(const config::ModelConfig& config, std::int64_t dim, std::int64_t heads) {
  if (dim % heads == 0) return;
  throw ConfigError(fmt::format("model.arch: {}: a width of {} is not a multiple of {} attention heads",
                                config.name, dim, heads));
}

}  // namespace cosub::model
