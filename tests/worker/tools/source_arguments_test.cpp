// Which sources of samples commands accept.
#include "worker/tools/source_arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "common/error.h"
#include "tests/support/error_of.h"

namespace cosub::tools {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

SourceArguments parsed(std::vector<std::string> words) {
  CLI::App app;
  SourceArguments arguments;
  add_source(app, arguments);
  std::reverse(words.begin(), words.end());
  app.parse(words);
  return arguments;
}

TEST(SourceArguments, AreOfOneSource) {
  EXPECT_EQ(parsed({"--folder", "images"}).get().folder, "images");
  EXPECT_THAT(error_of<ConfigError>([] { parsed({}).get(); }), HasSubstr("give one source of samples"));
  EXPECT_THAT(error_of<ConfigError>([] {
                parsed({"--folder", "a", "--shards", "b.tar"}).get();
              }),
              HasSubstr("give one source of samples"));
  EXPECT_THAT(error_of<ConfigError>([] {
                parsed({"--images", "a"}).get();
              }),
              HasSubstr("--images and --labels"));
}

TEST(SourceArguments, RefuseAClassMapThatChangesNothing) {
  const SourceArguments shards = parsed({"--shards", "b.tar", "--class-map", "names.txt"});
  EXPECT_THAT(error_of<ConfigError>([&] { shards.get(); }),
              HasSubstr("--class-map: found beside samples whose labels are numbers already"));
  EXPECT_EQ(shards.get_named().class_map, "names.txt");
  EXPECT_EQ(parsed({"--folder", "images", "--class-map", "names.txt"}).get().class_map, "names.txt");
}

}  // namespace
}  // namespace cosub::tools
