#include "common/braces.h"

#include <gmock/gmock.h>

#include "common/error.h"

namespace cosub {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string refusal(const std::string& text) {
  try {
    expand_braces(text);
  } catch (const DataError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Braces, RangesAreOfTheLargerWidthWhereAnEndBeginsWithZero) {
  EXPECT_THAT(expand_braces("{8..10}.tar"), ElementsAre("8.tar", "9.tar", "10.tar"));
  EXPECT_THAT(expand_braces("{08..10}"), ElementsAre("08", "09", "10"));
  EXPECT_THAT(expand_braces("{0..10..5}"), ElementsAre("0", "5", "10"));
  EXPECT_THAT(expand_braces("{00..100..50}"), ElementsAre("000", "050", "100"));
  EXPECT_THAT(expand_braces("{1..010..9}"), ElementsAre("001", "010"));
  EXPECT_EQ(expand_braces("{000000..002047}").back(), "002047");
}

TEST(Braces, StepsNeedNotReachTheEnd) {
  EXPECT_THAT(expand_braces("s{0..10..4}"), ElementsAre("s0", "s4", "s8"));
}

TEST(Braces, AlternativesAndSeveralBracesCombineTheLastFastest) {
  EXPECT_THAT(expand_braces("{a,b}-{0..1}.tar"), ElementsAre("a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"));
  EXPECT_THAT(expand_braces("x{,y}"), ElementsAre("x", "xy"));
  EXPECT_THAT(expand_braces("{{000..002},007}"), ElementsAre("000", "001", "002", "007"));
  EXPECT_THAT(expand_braces("{a{1,2},b}"), ElementsAre("a1", "a2", "b"));
}

TEST(Braces, OthersStandForThemselves) {
  for (const char* text : {"plain.tar", "{a}", "{}", "{a", "b}", ""}) {
    EXPECT_THAT(expand_braces(text), ElementsAre(text));
  }
  EXPECT_THAT(expand_braces("{a,{b}"), ElementsAre("{a,{b}"));
  EXPECT_THAT(expand_braces("{x{1..2}}"), ElementsAre("{x1}", "{x2}"));
}

TEST(Braces, WrongRangesAreNamed) {
  for (const char* range : {"{8..7}", "{1..}", "{a..c}", "{0..4..0}", "{0..4..-1}", "{0..1..2..3}"}) {
    EXPECT_THAT(refusal(std::string("/d/") + range), HasSubstr(std::string("'") + range + "' is no range"));
  }
}

TEST(Braces, ARangeAmongAlternativesIsRefusedWithWhatToWrite) {
  EXPECT_THAT(refusal("{000..003,007}.tar"),
              HasSubstr("'000..003' within '{000..003,007}' is no range, but the name '000..003'; write "
                        "{000..003} there"));
}

TEST(Braces, MoreThanAMillionNamesAreRefused) {
  EXPECT_EQ(expand_braces("{000000..999999}").size(), 1'000'000u);
  for (const char* text : {"{0..1000000}", "{0..9999}{0..9999}", "{{0..999999},{0..999999}}"}) {
    EXPECT_THAT(refusal(text), HasSubstr("stands for more than 1000000 names")) << text;
  }
}

}  // namespace
}  // namespace cosub
