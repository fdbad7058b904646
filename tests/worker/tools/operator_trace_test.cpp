#include "worker/tools/operator_trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "tests/support/temporary_folder.h"

namespace cosub::tools {
namespace {

const OperatorTime* find(const std::vector<OperatorTime>& operators, const std::string& name) {
  const auto found =
      std::find_if(operators.begin(), operators.end(), [&](const auto& one) { return one.name == name; });
  return found == operators.end() ? nullptr : &*found;
}

class OperatorTraceTest : public ::testing::Test {
 protected:
  std::vector<OperatorTime> trace() const {
    const OperatorTrace traced = trace_operators(file_, at::kCPU, [] {
      const at::Tensor a = at::ones({200, 200});
      for (int i = 0; i < 3; ++i) at::linear(a, a);  // calls mm through matmul
    });
    EXPECT_EQ(traced.device.span, 0);  // no GPU
    return traced.operators;
  }

  testing::TemporaryFolder folder_;
  std::filesystem::path file_ = folder_ / "trace.json";
};

TEST_F(OperatorTraceTest, CountsCallsAndGivesTimeToTheInnermost) {
  const auto operators = trace();
  const OperatorTime *product = find(operators, "aten::mm"), *outer = find(operators, "aten::linear");
  ASSERT_TRUE(product != nullptr && outer != nullptr);
  EXPECT_EQ(product->calls, 3);
  EXPECT_EQ(outer->calls, 3);
  EXPECT_GT(product->seconds, 0);
  EXPECT_GE(outer->seconds, 0) << "more is taken off than was there";
  EXPECT_TRUE(std::is_sorted(operators.begin(), operators.end(),
                             [](const auto& a, const auto& b) { return a.seconds > b.seconds; }));
}

TEST_F(OperatorTraceTest, WritesWhatPerfettoReads) {
  trace();
  const auto json = nlohmann::json::parse(std::ifstream(file_));
  const auto& events = json.at("traceEvents");
  EXPECT_TRUE(std::any_of(events.begin(), events.end(),
                          [](const auto& event) { return event.value("name", "") == "aten::mm"; }));
}

TEST_F(OperatorTraceTest, ThatCannotBeWrittenIsAnError) {
  file_ = folder_ / "missing" / "trace.json";
  EXPECT_THROW(trace(), IoError);
}

TEST(OperatorTable, SumsUpWhatIsNotShown) {
  const std::vector<OperatorTime> operators = {{"a", 0.006, 4}, {"b", 0.003, 2}, {"c", 0.001, 2}};
  const std::string text = operator_table(operators, 2, 1);
  EXPECT_NE(text.find("a            3.0     60.0      2"), std::string::npos) << text;
  EXPECT_NE(text.find("2 others     2.0     40.0      2"), std::string::npos) << text;
}

TEST(OperatorTable, StaysNarrowWhateverAKernelIsCalled) {
  const std::vector<OperatorTime> operators = {{std::string(500, 'k'), 0.006, 4}, {"b", 0.003, 2}};
  const std::string text = operator_table(operators, 2, 2);
  EXPECT_NE(text.find("kkk...  "), std::string::npos) << text;
  EXPECT_LT(text.find('\n', text.find('k')), 250) << text;
}

}  // namespace
}  // namespace cosub::tools
