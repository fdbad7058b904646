#include "common/protocol.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "common/error.h"

namespace cosub::protocol {
namespace {

using nlohmann::json;

// Each message's fields, once for both directions. `Self` is Message or const Message.
template <class Visit>
void fields(auto& self, Visit&& visit) {
  using Message = std::remove_cvref_t<decltype(self)>;
  if constexpr (std::is_same_v<Message, Submit>) {
    visit("yaml", self.yaml);
  } else if constexpr (std::is_same_v<Message, Stop>) {
    visit("now", self.now);
    visit("reason", self.reason);
  } else if constexpr (std::is_same_v<Message, Progress>) {
    visit("phase", self.phase);
    visit("step", self.step);
    visit("total_steps", self.total_steps);
    visit("epoch", self.epoch);
    visit("loss", self.loss);
    visit("top1", self.top1);
    visit("val_top1", self.val_top1);
    visit("images_per_second", self.images_per_second);
    visit("seconds_left", self.seconds_left);
    visit("data_wait", self.data_wait);
    visit("bad_samples", self.bad_samples);
    visit("skipped_steps", self.skipped_steps);
    visit("checkpoint_step", self.checkpoint_step);
  } else if constexpr (std::is_same_v<Message, Report>) {
    visit("uuid", self.uuid);
    visit("attempt", self.attempt);
    visit("generation", self.generation);
    visit("progress", self.progress);
    visit("metrics_addresses", self.metrics_addresses);
  } else if constexpr (std::is_same_v<Message, Directive>) {
    visit("action", self.action);
    visit("generation", self.generation);
  } else if constexpr (std::is_same_v<Message, AttemptView>) {
    visit("number", self.number);
    visit("uuid", self.uuid);
    visit("state", self.state);
    visit("reason", self.reason);
    visit("exit_code", self.exit_code);
    visit("folder", self.folder);
    visit("seconds", self.seconds);
  } else if constexpr (std::is_same_v<Message, StageView>) {
    visit("name", self.name);
    visit("task", self.task);
    visit("state", self.state);
    visit("reason", self.reason);
    visit("progress", self.progress);
    visit("results", self.results);
    visit("export_path", self.export_path);
    visit("attempts", self.attempts);
    visit("metrics_addresses", self.metrics_addresses);
    visit("seconds", self.seconds);
  } else {
    static_assert(std::is_same_v<Message, PipelineView>);
    visit("name", self.name);
    visit("state", self.state);
    visit("reason", self.reason);
    visit("folder", self.folder);
    visit("stages", self.stages);
  }
}

template <class Message>
constexpr const char* kName = nullptr;
template <>
constexpr const char* kName<Submit> = "Submit";
template <>
constexpr const char* kName<Stop> = "Stop";
template <>
constexpr const char* kName<Progress> = "Progress";
template <>
constexpr const char* kName<Report> = "Report";
template <>
constexpr const char* kName<Directive> = "Directive";
template <>
constexpr const char* kName<AttemptView> = "AttemptView";
template <>
constexpr const char* kName<StageView> = "StageView";
template <>
constexpr const char* kName<PipelineView> = "PipelineView";
template <>
constexpr const char* kName<std::vector<PipelineView>> = "PipelineViews";

[[noreturn]] void ill_typed(const std::string& where, const json& found, const char* wanted) {
  throw ProtocolError(fmt::format("{} must be {}, but is {}", where, wanted, found.type_name()));
}

// read(json, where, value): strict, because nlohmann's own conversions would turn 1.7 into 1. `where` is the
// field's path for messages, e.g. "PipelineView.stages[2].seconds".

void read(const json& from, const std::string& where, std::string& value) {
  if (!from.is_string()) ill_typed(where, from, "text");
  value = from.get<std::string>();
}

void read(const json& from, const std::string& where, bool& value) {
  if (!from.is_boolean()) ill_typed(where, from, "true or false");
  value = from.get<bool>();
}

void read(const json& from, const std::string& where, double& value) {
  // JSON has no NaN or infinity; both travel as null, so that a diverged loss can still be reported.
  if (from.is_null()) {
    value = std::numeric_limits<double>::quiet_NaN();
    return;
  }
  if (!from.is_number()) ill_typed(where, from, "a number");
  value = from.get<double>();
}

template <class Integer>
requires std::is_same_v<Integer, std::int64_t> || std::is_same_v<Integer, int>
void read(const json& from, const std::string& where, Integer& value) {
  if (!from.is_number_integer()) ill_typed(where, from, "a whole number");
  const bool fits = from.is_number_unsigned() ? std::in_range<Integer>(from.get<std::uint64_t>())
                                              : std::in_range<Integer>(from.get<std::int64_t>());
  if (!fits) throw ProtocolError(fmt::format("{} is {}, which is out of range", where, from.dump()));
  value = from.get<Integer>();
}

void read(const json& from, const std::string& where, std::map<std::string, double>& value) {
  if (!from.is_object()) ill_typed(where, from, "an object of numbers");
  value.clear();
  for (const auto& [key, item] : from.items()) read(item, where + "." + key, value[key]);
}

template <class Message>
requires(kName<Message> != nullptr) void read(const json& from, const std::string& where, Message& value);

template <class Item>
void read(const json& from, const std::string& where, std::vector<Item>& value) {
  if (!from.is_array()) ill_typed(where, from, "an array");
  value.assign(from.size(), Item{});
  for (std::size_t i = 0; i < value.size(); ++i) read(from[i], fmt::format("{}[{}]", where, i), value[i]);
}

/// Fields that were added since there have been state databases and running workers: without one the default
/// counts.
bool was_added_later(std::string_view key) {
  return key == "skipped_steps";
}

template <class Message>
requires(kName<Message> != nullptr) void read(const json& from, const std::string& where, Message& value) {
  if (!from.is_object()) ill_typed(where, from, "an object");
  fields(value, [&](const char* key, auto& field) {
    const auto found = from.find(key);
    if (found == from.end() && was_added_later(key)) return;
    if (found == from.end()) throw ProtocolError(fmt::format("{}.{} is missing", where, key));
    read(*found, fmt::format("{}.{}", where, key), field);
  });
}

template <class Message>
void write(json& to, const Message& message) {
  to = json::object();
  fields(message, [&](const char* key, const auto& field) { to[key] = field; });
}

}  // namespace

void to_json(json& to, const Submit& message) {
  write(to, message);
}
void from_json(const json& from, Submit& message) {
  read(from, kName<Submit>, message);
}
void to_json(json& to, const Stop& message) {
  write(to, message);
}
void from_json(const json& from, Stop& message) {
  read(from, kName<Stop>, message);
}
void to_json(json& to, const Progress& message) {
  write(to, message);
}
void from_json(const json& from, Progress& message) {
  read(from, kName<Progress>, message);
}
void to_json(json& to, const Report& message) {
  write(to, message);
}
void from_json(const json& from, Report& message) {
  read(from, kName<Report>, message);
}
void to_json(json& to, const Directive& message) {
  write(to, message);
}
void from_json(const json& from, Directive& message) {
  read(from, kName<Directive>, message);
}
void to_json(json& to, const AttemptView& message) {
  write(to, message);
}
void from_json(const json& from, AttemptView& message) {
  read(from, kName<AttemptView>, message);
}
void to_json(json& to, const StageView& message) {
  write(to, message);
}
void from_json(const json& from, StageView& message) {
  read(from, kName<StageView>, message);
}
void to_json(json& to, const PipelineView& message) {
  write(to, message);
}
void from_json(const json& from, PipelineView& message) {
  read(from, kName<PipelineView>, message);
}

template <class Message>
Message parse(const std::string& json_text) {
  json parsed;
  try {
    parsed = json::parse(json_text);
  } catch (const json::parse_error& error) {
    throw ProtocolError(fmt::format("{} is not valid JSON at byte {}", kName<Message>, error.byte));
  }
  Message message;
  read(parsed, kName<Message>, message);
  return message;
}

template <class Message>
std::string dump(const Message& message) {
  // Reasons may quote a log, whose bytes need not be UTF-8.
  return json(message).dump(-1, ' ', false, json::error_handler_t::replace);
}

template Submit parse(const std::string&);
template Stop parse(const std::string&);
template Progress parse(const std::string&);
template Report parse(const std::string&);
template Directive parse(const std::string&);
template AttemptView parse(const std::string&);
template StageView parse(const std::string&);
template PipelineView parse(const std::string&);
template std::vector<PipelineView> parse(const std::string&);

template std::string dump(const Submit&);
template std::string dump(const Stop&);
template std::string dump(const Progress&);
template std::string dump(const Report&);
template std::string dump(const Directive&);
template std::string dump(const AttemptView&);
template std::string dump(const StageView&);
template std::string dump(const PipelineView&);
template std::string dump(const std::vector<PipelineView>&);

}  // namespace cosub::protocol
