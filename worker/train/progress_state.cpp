#include "worker/train/progress_state.h"

#include <fmt/format.h>

#include <set>
#include <sstream>

#include "common/config/names.h"
#include "common/error.h"

namespace cosub::train {
namespace {

constexpr int kFormat = 3;

/// What decides the bits of a run. In the order of telling: what has a name of its own before the whole
/// config.
nlohmann::ordered_json identity_of(const config::StageFile& file, const TrainingSet& set) {
  return {{"seed", file.seed},
          {"threads", file.stage.threads},
          {"microbatches", file.stage.batch.global / file.stage.batch.micro},
          {"reduction", name_of(config::kReductionNames, file.stage.reduction)},
          {"training samples", set.size},
          {"training set", set.identity},
          {"config", config::identity_hash(file.stage, file.seed)}};
}

/// Lines of `now` that are not in `before`, at most five.
std::string changed_lines(const std::string& before, const std::string& now) {
  std::set<std::string> known;
  std::istringstream old_lines(before), new_lines(now);
  std::string line, changes;
  while (std::getline(old_lines, line)) known.insert(line);
  for (int shown = 0; shown < 5 && std::getline(new_lines, line);) {
    if (known.contains(line)) continue;
    changes += "\n  " + line;
    ++shown;
  }
  return changes;
}

/// A version before this one had other keys, and so another hash of the same settings.
bool is_equal_by_todays_keys(const nlohmann::json& state, const config::StageFile& file,
                             const std::string& where) {
  try {
    const config::StageFile before =
        config::parse_stage_file(state.at("stage").get<std::string>(), where, file.stage_folder);
    return config::identity_hash(before.stage, before.seed) == config::identity_hash(file.stage, file.seed);
  } catch (const ConfigError&) {
    return false;  // written by another program altogether, or a key is gone
  }
}

void check_identity(const nlohmann::json& state, const config::StageFile& file, const TrainingSet& set,
                    const std::string& where) {
  nlohmann::ordered_json mine = identity_of(file, set);
  const nlohmann::json& theirs = state.at("identity");
  for (const auto& [key, value] : mine.items()) {
    if (theirs.contains(key) && theirs.at(key) == nlohmann::json(value)) continue;
    if (key == "config" && is_equal_by_todays_keys(state, file, where)) continue;
    std::string difference =
        key == "config" ? "another configuration; now it says:" +
                              changed_lines(state.at("stage").get<std::string>(), config::to_yaml(file))
                        : fmt::format("{}: {}, this run has {}", key,
                                      theirs.value(key, nlohmann::json()).dump(), value.dump());
    throw DataError(
        fmt::format("{} was made with {}\nA run goes on only as it began. Undo the change, or start a new "
                    "run under another name "
                    "(--set name=...).",
                    where, difference));
  }
}

}  // namespace

nlohmann::json to_state(const TrainingProgress& progress, const config::StageFile& file,
                        const TrainingSet& set, const nlohmann::json& model_config) {
  return {{"format", kFormat},
          {"step", progress.step},
          {"interval",
           {{"steps", progress.interval.steps},
            {"loss", progress.interval.loss},
            {"correct", progress.interval.correct},
            {"images", progress.interval.images}}},
          {"images", progress.images},
          {"skipped_steps", progress.skipped_steps},
          {"skipped_in_a_row", progress.skipped_in_a_row},
          {"bad_samples", progress.bad_samples},
          {"val_top1", progress.val_top1},
          {"val_step", progress.val_step},
          {"best_val_top1", progress.best_val_top1},
          {"seconds", progress.seconds},
          {"identity", identity_of(file, set)},
          {"model", model_config},
          {"stage", config::to_yaml(file)}};
}

TrainingProgress from_state(const nlohmann::json& state, const config::StageFile& file,
                            const TrainingSet& set, const std::string& where) {
  try {
    if (state.at("format") != kFormat)
      throw DataError(fmt::format("{}: state.json has format {}, this program reads {}", where,
                                  state.at("format").dump(), kFormat));
    check_identity(state, file, set, where);
    TrainingProgress progress;
    progress.step = state.at("step").get<std::int64_t>();
    const nlohmann::json& interval = state.at("interval");
    progress.interval = {.steps = interval.at("steps").get<std::int64_t>(),
                         .loss = interval.at("loss").get<double>(),
                         .correct = interval.at("correct").get<double>(),
                         .images = interval.at("images").get<std::int64_t>()};
    progress.images = state.at("images").get<std::int64_t>();
    progress.skipped_steps = state.value("skipped_steps", std::int64_t{0});
    progress.skipped_in_a_row = state.value("skipped_in_a_row", std::int64_t{0});
    progress.bad_samples = state.at("bad_samples").get<std::set<std::int64_t>>();
    progress.val_top1 = state.at("val_top1").get<double>();
    progress.val_step = state.at("val_step").get<std::int64_t>();
    progress.best_val_top1 = state.at("best_val_top1").get<double>();
    progress.seconds = state.at("seconds").get<double>();
    return progress;
  } catch (const nlohmann::json::exception& error) {
    throw DataError(where + ": state.json lacks something: " + error.what());
  }
}

}  // namespace cosub::train
