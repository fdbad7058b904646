#include "common/config/yaml.h"

#include <gmock/gmock.h>

#include "tests/common/config/pipelines.h"

namespace cosub::config {
namespace {

using ::testing::HasSubstr;

TEST(Yaml, SyntaxErrorsArePlaced) {
  EXPECT_THAT(refusal("name: [a\nstages: b"), HasSubstr("p.yaml:2:"));
  EXPECT_THAT(refusal("name: a\n\tseed: 1\n"), HasSubstr("p.yaml:2:1: not valid YAML: "));
  EXPECT_THAT(refusal("name: *nowhere\n"), HasSubstr("p.yaml:1:7: not valid YAML: "));
  EXPECT_THAT(refusal("name: {a: b\n"), HasSubstr("not valid YAML: "));
}

TEST(Yaml, OtherTextThanUtf8IsRefused) {
  EXPECT_EQ(refusal("name: a\nseed: \xff\n"), "p.yaml:2:7: not UTF-8 text, or a control character.");
  for (const char* bytes :
       {"\x04", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"}) {
    EXPECT_EQ(refusal(std::string("x") + bytes), "p.yaml:1:2: not UTF-8 text, or a control character.");
  }
  EXPECT_THAT(refusal("a: é日😀"), HasSubstr("unknown key 'a'"));
}

TEST(Yaml, DuplicateKeysAreRefused) {
  EXPECT_EQ(refusal(with("seed: 7\n", "seed: 7\nseed: 8\n")),
            "p.yaml:3:1: seed: given twice, first in line 2; keep one of them.");
}

TEST(Yaml, ASecondDocumentAndOddKeysAreRefused) {
  EXPECT_THAT(refusal(kValid + "---\nname: other\n"), HasSubstr("a second YAML document"));
  EXPECT_THAT(refusal("[a, b]: 1\n"), HasSubstr("found a list where a key is needed"));
  EXPECT_THAT(refusal("- a\n- b\n"),
              HasSubstr("p.yaml:1:1: found a list; allowed: a mapping with the keys name, seed"));
}

TEST(Yaml, AnchorsAndMergeKeysWork) {
  const PipelineConfig pipeline =
      parse(with("    optimizer:\n      lr: 3e-3", "    optimizer: &o {lr: 1e-2, eps: 1e-6}") +
            "  - name: more\n    init: {stage: pretrain}\n    optimizer: {<<: *o, lr: 5e-3}\n");
  EXPECT_EQ(pipeline.stages[4].optimizer.lr, 5e-3);
  EXPECT_EQ(pipeline.stages[4].optimizer.eps, 1e-6);
  EXPECT_THAT(refusal(with("optimizer:\n", "optimizer:\n      <<: 5\n")),
              HasSubstr("<<: found '5'; allowed: a mapping."));
}

TEST(Yaml, HostileAliasesAndDepthsAreRefused) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last;
    for (int k = 0; k < 9; ++k) bomb += ", " + last;
    bomb += "]\n";
  }
  EXPECT_THAT(refusal(bomb), HasSubstr("more than 100000 values"));
  EXPECT_THAT(refusal("a: " + std::string(100, '[') + std::string(100, ']')),
              HasSubstr("nested deeper than 64 levels"));
  EXPECT_THAT(refusal("a: " + std::string(100000, '[')), HasSubstr("not valid YAML"));
  EXPECT_THAT(refusal("a: &x [*x]\n"), HasSubstr("an anchor that contains itself"));
}

TEST(Yaml, StringsOfAnyCharactersReadBack) {
  const auto source = std::make_shared<const Source>(Source{"text", "/", false});
  std::vector<std::string> texts = {"",  " a",  "a ",   "null", "~",  "true", "yes", "1",     "1e3",  ".5",
                                    "-", "- a", "a: b", "a #b", "{a", "[a",   "*a",  "&a",    "!a",   "|",
                                    ">", "%a",  "@a",   "`a",   "'",  "\"",   "\\",  "é日本", "a\nb", "<<"};
  for (int c = 1; c < 128; ++c) texts.push_back("x" + std::string(1, static_cast<char>(c)) + "y");
  for (const std::string& text : texts) {
    Tree map = Tree::map();
    map.set("key", Tree::text(text));
    map.set("list", Tree::list());
    map.find("list")->items.push_back(Tree::text(text));
    Problems problems;
    const Tree read = read_yaml(print_yaml(map), source, problems);
    EXPECT_NO_THROW(problems.throw_if_any());
    ASSERT_NE(read.find("key"), nullptr);
    EXPECT_EQ(read.find("key")->kind, Tree::Kind::kScalar);
    EXPECT_EQ(read.find("key")->scalar, text);
    ASSERT_EQ(read.find("list")->items.size(), 1u) << print_yaml(map);
    EXPECT_EQ(read.find("list")->items[0].scalar, text);
  }
}

}  // namespace
}  // namespace cosub::config
