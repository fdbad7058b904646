#include "common/text.h"

#include <gtest/gtest.h>

namespace cosub {
namespace {

using std::chrono::milliseconds;

TEST(Nearest, FindsSlipsOfOneLetterAndSwappedLetters) {
  const std::vector<std::string> words = {"optimizer", "schedule", "lr", "min_lr"};
  EXPECT_EQ(nearest("optimiser", words), "optimizer");
  EXPECT_EQ(nearest("scheduel", words), "schedule");
  EXPECT_EQ(nearest("rl", words), "lr");
  EXPECT_EQ(nearest("minlr", words), "min_lr");
}

TEST(Nearest, PrefersTheCloserAndThenTheFirst) {
  EXPECT_EQ(nearest("abcdef", {"abcxyf", "abcdxf"}), "abcdxf");
  EXPECT_EQ(nearest("abcd", {"abcx", "abcy"}), "abcx");
}

TEST(Nearest, KnowsOtherNames) {
  EXPECT_EQ(nearest("gpu", {"auto", "cpu", "cuda"}), "cuda");
  EXPECT_EQ(nearest("gpu", {"auto", "cpu"}), "cpu");
}

TEST(Nearest, SaysNothingWhereNothingIsNear) {
  EXPECT_EQ(nearest("banana", {"optimizer", "lr"}), std::nullopt);
  EXPECT_EQ(nearest("q", {"lr", "x"}), std::nullopt);
  EXPECT_EQ(nearest("", {"lr"}), std::nullopt);
  EXPECT_EQ(did_you_mean("banana", {"lr"}), "");
  EXPECT_EQ(did_you_mean("epoch", {"epochs"}), " Did you mean 'epochs'?");
}

TEST(Table, AlignsWordsLeftAndNumbersRightByCodePoints) {
  EXPECT_EQ(table({{"stage", "top1"}, {"évaluate", "91.2"}, {"x", "5"}}),
            "stage     top1\n"
            "évaluate  91.2\n"
            "x            5\n");
}

TEST(Table, AcceptsRaggedRows) {
  EXPECT_EQ(table({{"a"}, {"b", "c"}, {}}), "a\nb  c\n\n");
}

TEST(FormatDuration, GrowsWithItsSize) {
  EXPECT_EQ(format_duration(0.0421), "42 ms");
  EXPECT_EQ(format_duration(1.24), "1.2 s");
  EXPECT_EQ(format_duration(59.97), "1:00");
  EXPECT_EQ(format_duration(185), "3:05");
  EXPECT_EQ(format_duration(7385), "2:03:05");
  EXPECT_EQ(format_duration(86400 + 2 * 3600 + 3 * 60 + 59), "1d 02:03");
  EXPECT_EQ(format_duration(-5), "-5.0 s");
  EXPECT_EQ(format_duration(1.0 / 0.0), "?");
}

TEST(FormatCount, GroupsThousandsThenUsesUnits) {
  EXPECT_EQ(format_count(7), "7");
  EXPECT_EQ(format_count(1234), "1,234");
  EXPECT_EQ(format_count(999999), "999,999");
  EXPECT_EQ(format_count(999999.6), "1.0 M");
  EXPECT_EQ(format_count(12.34e6), "12.3 M");
  EXPECT_EQ(format_count(3.2e9), "3.2 G");
}

TEST(FormatBytes, UsesBinaryUnits) {
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(1.2 * 1024 * 1024 * 1024), "1.2 GiB");
  EXPECT_EQ(format_bytes(1024 * 1024 - 1), "1.0 MiB");
}

TEST(ParseDuration, ReadsEveryUnitAndPlainSeconds) {
  EXPECT_EQ(parse_duration("250ms"), milliseconds(250));
  EXPECT_EQ(parse_duration("30s"), milliseconds(30'000));
  EXPECT_EQ(parse_duration("15m"), milliseconds(900'000));
  EXPECT_EQ(parse_duration("24h"), milliseconds(86'400'000));
  EXPECT_EQ(parse_duration("2d"), milliseconds(172'800'000));
  EXPECT_EQ(parse_duration("1.5s"), milliseconds(1500));
  EXPECT_EQ(parse_duration("7"), milliseconds(7000));
}

TEST(ParseDuration, RefusesEverythingElse) {
  for (const char* text : {"", "s", "15 m", "15min", "-3s", "nan", "inf", "1e3s", "99999999999d", "3s "}) {
    EXPECT_EQ(parse_duration(text), std::nullopt) << text;
  }
}

TEST(DurationText, ParsesBack) {
  for (const std::int64_t count : {0LL, 1LL, 250LL, 1000LL, 1500LL, 60'000LL, 900'000LL, 86'400'000LL}) {
    EXPECT_EQ(parse_duration(duration_text(milliseconds(count))), milliseconds(count));
  }
  EXPECT_EQ(duration_text(milliseconds(900'000)), "15m");
  EXPECT_EQ(duration_text(milliseconds(1500)), "1500ms");
}

}  // namespace
}  // namespace cosub
