#include "worker/train/recorded_step.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <vector>

#include "common/config/names.h"
#include "common/error.h"

namespace cosub::train {
namespace {

const config::Names<bool> kFlagNames = {{"true", true}, {"false", false}};

class Reader {
 public:
  Reader(const std::map<std::string, std::string>& metadata, const std::string& where)
      : metadata_(metadata), where_(where) {}

  template <typename Value>
  void named(const char* key, const config::Names<Value>& names, Value& value) const {
    const std::string* const text = find(key);
    if (text == nullptr) return;
    if (const Value* const found = config::value_of(names, *text)) {
      value = *found;
      return;
    }
    std::vector<std::string> allowed;
    for (const auto& [name, unused] : names) allowed.push_back(name);
    refuse(key, *text, fmt::format("{}", fmt::join(allowed, ", ")));
  }

  template <typename Number>
  void number(const char* key, Number& value, Number most) const {
    const std::string* const text = find(key);
    if (text == nullptr) return;
    Number read{};
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), read);
    if (error != std::errc() || end != text->data() + text->size() || !(read >= 0 && read <= most))
      refuse(key, *text, fmt::format("a number from 0 to {}", most));
    value = read;
  }

  const std::string* find(const char* key) const {
    const auto found = metadata_.find(key);
    return found == metadata_.end() ? nullptr : &found->second;
  }

 private:
  [[noreturn]] void refuse(const char* key, const std::string& text, const std::string& allowed) const {
    throw DataError(fmt::format("{}: metadata {}: found {}; allowed: {}", where_, key, text, allowed));
  }

  const std::map<std::string, std::string>& metadata_;
  const std::string& where_;
};

}  // namespace

std::map<std::string, std::string> to_metadata(const RecordedStep& step) {
  std::map<std::string, std::string> metadata = {
      {"cosub", config::name_of(kFlagNames, step.cosub.enabled)},
      {"share_stem", config::name_of(kFlagNames, step.cosub.share_stem)},
      {"loss", name_of(config::kLossNames, step.cosub.loss)},
      {"lambda", fmt::format("{}", step.cosub.lambda)},
      {"bce_reduction", name_of(config::kBceReductionNames, step.cosub.bce_reduction)},
      {"targets", name_of(config::kTargetsNames, step.cosub.targets)},
      {"precision", name_of(config::kPrecisionNames, step.precision)},
      {"later_updates", std::to_string(step.later_updates)}};
  if (!step.model.empty()) metadata["model"] = step.model;
  return metadata;
}

RecordedStep from_metadata(const std::map<std::string, std::string>& metadata, const std::string& where) {
  const Reader reader(metadata, where);
  RecordedStep step;
  if (const std::string* const model = reader.find("model")) step.model = *model;
  reader.named("cosub", kFlagNames, step.cosub.enabled);
  reader.named("share_stem", kFlagNames, step.cosub.share_stem);
  reader.named("loss", config::kLossNames, step.cosub.loss);
  reader.number("lambda", step.cosub.lambda, 1.0);
  reader.named("bce_reduction", config::kBceReductionNames, step.cosub.bce_reduction);
  reader.named("targets", config::kTargetsNames, step.cosub.targets);
  reader.named("precision", config::kPrecisionNames, step.precision);
  reader.number("later_updates", step.later_updates, std::int64_t{1} << 40);
  return step;
}

}  // namespace cosub::train
