#include "common/protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/error.h"

namespace cosub::protocol {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

PipelineView example() {
  StageView stage{.name = "pretrain", .task = "classify", .state = "running", .reason = "attempt 2"};
  stage.progress = {
      .phase = "training", .step = 120, .total_steps = 900, .epoch = 1.5, .loss = 0.25, .top1 = 0.75};
  stage.results = {{"top1", 0.9123}, {"submodels.even.top1", 0.5}};
  stage.attempts = {{.number = 1, .uuid = "u1", .state = "ended", .exit_code = 137},
                    {.number = 2, .uuid = "u2", .state = "running", .seconds = 4.5}};
  stage.metrics_addresses = {"127.0.0.1:9000", "127.0.0.1:9001"};
  return {
      .name = "quickstart", .state = "running", .folder = "/runs/quickstart", .stages = {stage, StageView{}}};
}

/// The example as JSON with one field changed (nullptr value type: taken away).
template <class Change>
std::string changed(const Change& change) {
  json value = json::parse(dump(example()));
  change(value);
  return value.dump();
}

TEST(Protocol, MessageComesBackEqual) {
  const std::string text = dump(example());
  const PipelineView back = parse<PipelineView>(text);
  EXPECT_EQ(dump(back), text);
  EXPECT_EQ(back.stages[0].attempts[1].seconds, 4.5);
  EXPECT_EQ(back.stages[0].results.at("top1"), 0.9123);
  EXPECT_EQ(back.stages[0].progress.step, 120);
  const auto list = parse<std::vector<PipelineView>>(dump(std::vector<PipelineView>{back, back}));
  EXPECT_EQ(list.size(), 2U);
}

TEST(Protocol, EveryMessageComesBackEqual) {
  const auto check = [](const auto& message) {
    using Message = std::remove_cvref_t<decltype(message)>;
    EXPECT_EQ(dump(parse<Message>(dump(message))), dump(message));
  };
  check(Submit{.yaml = "name: x\nstages: []\n"});
  check(Stop{.now = true, .reason = "asked"});
  check(Progress{.phase = "done", .step = 9, .val_top1 = 0.5, .bad_samples = 3, .skipped_steps = 2});
  check(Report{.uuid = "u", .attempt = 3, .generation = 7, .progress = {}, .metrics_addresses = {"h:1"}});
  check(Directive{.action = "stop", .generation = 7});
  check(AttemptView{.number = 1, .uuid = "u", .reason = "killed", .exit_code = 137});
  check(StageView{.name = "evaluate", .results = {{"top1", 0.5}}, .export_path = "/x"});
}

TEST(Protocol, UnknownFieldsOfANewerPeerAreIgnored) {
  const auto text = changed([](json& value) { value["stages"][0]["colour"] = {{"r", 1}}; });
  EXPECT_EQ(parse<PipelineView>(text).stages.size(), 2U);
}

/// State databases and workers of earlier versions do not have it.
TEST(Protocol, AFieldThatWasAddedLaterMayBeMissing) {
  const auto text = changed([](json& value) { value["stages"][1]["progress"].erase("skipped_steps"); });
  EXPECT_EQ(parse<PipelineView>(text).stages[1].progress.skipped_steps, 0);
}

TEST(Protocol, MissingFieldIsNamedWithItsMessage) {
  const auto text = changed([](json& value) { value["stages"][1]["progress"].erase("step"); });
  EXPECT_THAT([&] { parse<PipelineView>(text); },
              ThrowsMessage<ProtocolError>("PipelineView.stages[1].progress.step is missing"));
}

TEST(Protocol, IllTypedFieldsAreNamed) {
  const auto refused = [](const auto& change, const std::string& what) {
    EXPECT_THAT([&] { parse<PipelineView>(changed(change)); }, ThrowsMessage<ProtocolError>(HasSubstr(what)));
  };
  refused([](json& v) { v["name"] = 5; }, "PipelineView.name must be text, but is number");
  refused([](json& v) { v["stages"] = {{"a", 1}}; }, "PipelineView.stages must be an array, but is object");
  refused([](json& v) { v["stages"][0] = 1; }, "PipelineView.stages[0] must be an object");
  refused([](json& v) { v["stages"][0]["results"]["top1"] = "x"; },
          "results.top1 must be a number, but is string");
  refused([](json& v) { v["stages"][0]["attempts"][0]["number"] = 1.5; }, "number must be a whole number");
  refused([](json& v) { v["stages"][0]["attempts"][0]["number"] = true; }, "number must be a whole number");
  refused([](json& v) { v["stages"][0]["attempts"][0]["number"] = 18446744073709551615ULL; }, "out of range");
  refused([](json& v) { v["stages"][0]["attempts"][0]["exit_code"] = 1LL << 40; }, "out of range");
  refused([](json& v) { v["stages"][0]["metrics_addresses"][1] = nullptr; },
          "metrics_addresses[1] must be text");
  EXPECT_THAT([] { parse<Stop>(R"({"now": 1, "reason": ""})"); },
              ThrowsMessage<ProtocolError>("Stop.now must be true or false, but is number"));
}

TEST(Protocol, TextThatIsNoJsonIsRefused) {
  for (const char* text : {"", "{", "nonsense", "{\"now\": true", "\xff", "[]", "null"})
    EXPECT_THAT([&] { parse<Stop>(text); }, ThrowsMessage<ProtocolError>(HasSubstr("Stop"))) << text;
  const std::string deep(1'000'000, '[');
  EXPECT_THROW(parse<Stop>(deep), ProtocolError);
}

TEST(Protocol, DivergedLossCanBeReported) {
  Report report;
  report.progress.loss = std::numeric_limits<double>::quiet_NaN();
  report.progress.top1 = std::numeric_limits<double>::infinity();
  const Report back = parse<Report>(dump(report));
  EXPECT_TRUE(std::isnan(back.progress.loss));
  EXPECT_TRUE(std::isnan(back.progress.top1));
}

TEST(Protocol, BytesThatAreNoTextAreReplacedNotRefused) {
  const Stop back = parse<Stop>(dump(Stop{.now = false, .reason = "log said \xff\xfe!"}));
  EXPECT_THAT(back.reason, AllOf(HasSubstr("log said "), HasSubstr("!")));
}

}  // namespace
}  // namespace cosub::protocol
