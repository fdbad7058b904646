#include "common/run_folder.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/error.h"

namespace cosub {

std::int64_t read_fence(const StageFolder& stage) {
  const std::optional<std::string> text = read_file_if_there(stage.fence());
  if (!text) return 0;
  std::int64_t attempt = -1;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), attempt);
  const std::string_view rest(end, static_cast<std::size_t>(text->data() + text->size() - end));
  if (error != std::errc() || attempt < 0 || (rest != "" && rest != "\n"))
    throw DataError(
        fmt::format("{} must hold one attempt's number; it was not written by cosub. "
                    "Write the number of the newest folder in {} into it",
                    stage.fence().string(), stage.attempts().string()));
  return attempt;
}

void write_fence(const StageFolder& stage, std::int64_t attempt) {
  const std::int64_t current = read_fence(stage);
  if (attempt < current)
    throw IoError(
        fmt::format("{} already names attempt {}; it must not go down to {}. "
                    "Another coordinator uses this folder: stop one of the two",
                    stage.fence().string(), current, attempt));
  if (attempt > current) write_file_atomically(stage.fence(), fmt::format("{}\n", attempt));
}

std::optional<CoordinatorAddress> read_coordinator(const StageFolder& stage) {
  const std::optional<std::string> text = read_file_if_there(stage.coordinator());
  if (!text) return std::nullopt;
  try {
    const nlohmann::json json = nlohmann::json::parse(*text);
    return CoordinatorAddress{json.at("address").get<std::string>(),
                              json.at("generation").get<std::int64_t>()};
  } catch (const nlohmann::json::exception& error) {
    throw DataError(fmt::format("{}: {}; a coordinator writes it anew when it starts",
                                stage.coordinator().string(), error.what()));
  }
}

void write_coordinator(const StageFolder& stage, const CoordinatorAddress& address) {
  const nlohmann::json json = {{"address", address.address}, {"generation", address.generation}};
  write_file_atomically(stage.coordinator(), json.dump() + "\n");
}

}  // namespace cosub
