// Names in STAGE/checkpoints. What begins with a dot is unfinished or on its way out; only step-* counts.
//   step-000012000              committed             step-000012000.damaged-1   set aside
//   .step-000012000.attempt-3   being written         .step-000012000.pruned     being removed
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace cosub::checkpoint {

std::string step_name(std::int64_t step);
std::string temporary_name(std::int64_t step, std::int64_t attempt);
std::string pruned_name(std::int64_t step);

/// The step of a committed checkpoint's name, or of one set aside (`damaged`); nullopt for any other name.
struct StepName {
  std::int64_t step = 0;
  bool damaged = false;
};
std::optional<StepName> parse_step_name(const std::string& name);

/// Whether `name` is unfinished work that nobody of a later attempt than `attempt` can be at.
bool is_leftover(const std::string& name, std::int64_t attempt);

/// Names of what a folder holds, sorted; empty where there is no such folder. IoError when it cannot be
/// listed.
std::vector<std::string> list_names(const std::filesystem::path& folder);

}  // namespace cosub::checkpoint
