#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/worker/model/models.h"

namespace cosub::model {
namespace {

using ::testing::HasSubstr;
using Kept = std::vector<bool>;

TEST(ParseKeep, KnowsEveryForm) {
  EXPECT_EQ(parse_keep("all", 4), (Kept{true, true, true, true}));
  EXPECT_EQ(parse_keep("even", 4), (Kept{true, false, true, false}));
  EXPECT_EQ(parse_keep("odd", 4), (Kept{false, true, false, true}));
  EXPECT_EQ(parse_keep("first:1", 4), (Kept{true, false, false, false}));
  EXPECT_EQ(parse_keep("last:3", 4), (Kept{false, true, true, true}));
  EXPECT_EQ(parse_keep("first:0", 2), (Kept{false, false}));
  EXPECT_EQ(parse_keep("0,3", 4), (Kept{true, false, false, true}));
}

TEST(ParseKeep, NamesTheTextItCannotRead) {
  for (const char* text : {"", "some", "first:", "first:x", "1,", ",1", "-1", "1 2", "first:-1"}) {
    EXPECT_THROW(parse_keep(text, 4), ConfigError) << text;
    EXPECT_THAT(message_of([&] { parse_keep(text, 4); }), HasSubstr("'" + std::string(text) + "'"));
  }
  EXPECT_THAT(message_of([] { parse_keep("2,4", 4); }), HasSubstr("blocks are 0 to 3"));
  EXPECT_THAT(message_of([] { parse_keep("last:5", 4); }), HasSubstr("the model has 4"));
}

TEST(CheckDropRates, SetsUniformAndLinearRates) {
  config::ModelConfig config = small_vit();
  config.drop_rate = 0.5;
  auto backbone = create(config, 0);
  check_drop_rates(*backbone, 64);
  for (const BranchInfo& branch : backbone->seam().branches()) EXPECT_DOUBLE_EQ(branch.drop_rate, 0.5);

  config.drop_rate_rule = config::DropRateRule::kLinear;
  backbone = create(config, 0);
  check_drop_rates(*backbone, 64);
  const std::vector<double> wanted = {0.0, 0.0, 0.25, 0.25, 0.5, 0.5};  // two branches a block
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_DOUBLE_EQ(backbone->seam().branches()[i].drop_rate, wanted[i]);
  }
}

TEST(CheckDropRates, RefusesRatesThatWholeRowsCannotMeet) {
  config::ModelConfig config = small_vit();
  config.drop_rate = 0.1;
  EXPECT_NO_THROW(check_drop_rates(*create(config, 0), 10));
  EXPECT_THROW(check_drop_rates(*create(config, 0), 8), ConfigError);  // 1 of 8 rows: 0.125
  EXPECT_THAT(message_of([&] { check_drop_rates(*create(config, 0), 8); }),
              HasSubstr("blocks 0-2: wanted 0.1"));
  config.allow_rounded_drop_rate = true;
  EXPECT_THAT(check_drop_rates(*create(config, 0), 8), HasSubstr("0.1250"));
  config.allow_rounded_drop_rate = false;
  config.stochastic_depth = config::StochasticDepth::kBernoulli;
  EXPECT_NO_THROW(check_drop_rates(*create(config, 0), 8));
}

}  // namespace
}  // namespace cosub::model
