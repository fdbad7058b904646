#include "common/random.h"
#include "tests/common/config/pipelines.h"

namespace cosub::config {
namespace {

/// One to three changes at keyed places: a byte flipped, a piece removed, doubled, or replaced by YAML's own
/// signs.
std::string mutated(std::string text, KeyedRandom& random) {
  static const std::vector<std::string> kPieces = {
      "[",  "]", "{", "}",    ": ", "- ",    "\n", "\t", "&a ",      "*a", "<<: ",  "'",
      "\"", "|", ">", "!!x ", "%",  "---\n", "#",  "\0", "\xff\xfe", "~",  "1e999", "\r"};
  const std::uint64_t num_changes = 1 + random.uniform_int(3);
  for (std::uint64_t change = 0; change < num_changes && !text.empty(); ++change) {
    const std::size_t at = random.uniform_int(text.size());
    const std::size_t length = 1 + random.uniform_int(12);
    switch (random.uniform_int(4)) {
      case 0:
        text[at] = static_cast<char>(text[at] ^ (1 << random.uniform_int(8)));
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(random.uniform_int(text.size()), text.substr(at, length));
        break;
      default:
        text.insert(at, kPieces[random.uniform_int(kPieces.size())]);
    }
  }
  return text;
}

TEST(ConfigFuzz, DamagedFilesAreReadOrRefusedWithTheirName) {
  int num_read = 0, num_refused = 0;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    KeyedRandom random(3, Purpose::kTest, i, 0);
    const std::string yaml = mutated(kValid, random);
    try {
      const PipelineConfig pipeline = parse(yaml);
      EXPECT_TRUE(parse(to_yaml(pipeline)) == pipeline) << testing::PrintToString(yaml) << "\n"
                                                        << to_yaml(pipeline);
      ++num_read;
    } catch (const ConfigError& error) {
      EXPECT_EQ(std::string(error.what()).rfind("p.yaml:", 0), 0u) << error.what() << "\n" << yaml;
      ++num_refused;
    }  // anything else that is thrown fails the test
  }
  EXPECT_GT(num_read, 50);
  EXPECT_GT(num_refused, 1000);
}

TEST(ConfigFuzz, DamagedOverridesAreTakenOrRefused) {
  int num_taken = 0, num_refused = 0;
  for (std::uint64_t i = 0; i < 1500; ++i) {
    KeyedRandom random(4, Purpose::kTest, i, 0);
    const std::string text =
        mutated("stages.pretrain.model={drop_rate: 0.1, arch: {layers: [1, 2]}}", random);
    try {
      parse(kValid, {text});
      ++num_taken;
    } catch (const ConfigError&) {
      ++num_refused;
    }  // anything else that is thrown fails the test
  }
  EXPECT_GT(num_taken, 0);
  EXPECT_GT(num_refused, 100);
}

}  // namespace
}  // namespace cosub::config
