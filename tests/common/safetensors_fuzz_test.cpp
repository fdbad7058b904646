// Whatever a damaged disk or a hostile hand makes of valid files: a small edition of what bench/fuzz does
// that runs with every test.
#include <gtest/gtest.h>

#include "common/random.h"
#include "tests/support/safetensors_contract.h"

namespace cosub::safetensors {
namespace {

const std::vector<std::string> kHeaders = {
    R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[2,2],"data_offsets":[8,12]},)"
    R"("__metadata__":{"format":"pt"}})",
    R"({"s":{"dtype":"BF16","shape":[],"data_offsets":[8,10]},"e":{"dtype":"I64","shape":[0,3],"data_offsets":[0,0]},)"
    R"("f":{"dtype":"F64","shape":[1,1,1],"data_offsets":[0,8]},"m":{"dtype":"BOOL","shape":[2],)"
    R"("data_offsets":[10,12]}}   )",
    R"({"__metadata__":{"\u00fc":"\ud83d\ude00\n","":""},"\"w\\":{"data_offsets":[0,12],"shape":[3,2],"dtype":"F16"}})"};

/// One to three changes: a byte flipped or replaced, a piece removed, doubled, replaced by JSON's own signs,
/// a number by another.
std::string mutated(std::string text, KeyedRandom& random) {
  static const std::vector<std::string> kPieces = {"{",
                                                   "}",
                                                   "[",
                                                   "]",
                                                   "\"",
                                                   ":",
                                                   ",",
                                                   "\\",
                                                   "0",
                                                   "1",
                                                   "4",
                                                   "8",
                                                   "12",
                                                   "-",
                                                   ".",
                                                   "e",
                                                   "[]",
                                                   "{}",
                                                   "null",
                                                   "\\ud800",
                                                   " ",
                                                   "\xff",
                                                   "\xc3",
                                                   "F32",
                                                   "U8",
                                                   "4294967296",
                                                   "dtype",
                                                   "9223372036854775808",
                                                   "18446744073709551615",
                                                   "__metadata__",
                                                   std::string(1, '\0')};
  const std::uint64_t num_changes = 1 + random.uniform_int(3);
  for (std::uint64_t change = 0; change < num_changes && !text.empty(); ++change) {
    const std::size_t at = random.uniform_int(text.size()), length = 1 + random.uniform_int(12);
    switch (random.uniform_int(6)) {
      case 0:
        text[at] = static_cast<char>(text[at] ^ (1 << random.uniform_int(8)));
        break;
      case 1:
        text[at] = static_cast<char>(' ' + random.uniform_int(95));
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(random.uniform_int(text.size()), text.substr(at, length));
        break;
      case 4:
        text.replace(at, 1, kPieces[random.uniform_int(kPieces.size())]);
        break;
      default:
        text.insert(at, kPieces[random.uniform_int(kPieces.size())]);
    }
  }
  return text;
}

TEST(SafetensorsFuzz, DamagedHeadersAreReadInBoundsOrRefusedWithTheirName) {
  int num_accepted = 0;
  for (std::uint64_t i = 0; i < 40'000; ++i) {
    KeyedRandom random(1, Purpose::kTest, i, 0);
    const std::string header = mutated(kHeaders[i % kHeaders.size()], random);
    const std::string file = testing::safetensors_file(header, std::string(12, 'd'));
    ASSERT_NO_THROW(num_accepted += testing::check_safetensors(file)) << ::testing::PrintToString(file);
  }
  EXPECT_GT(num_accepted, 400);  // a letter of a name, a blank
  EXPECT_LT(num_accepted, 20'000);
}

TEST(SafetensorsFuzz, DamagedFilesAreReadInBoundsOrRefusedWithTheirName) {
  int num_accepted = 0;
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    KeyedRandom random(2, Purpose::kTest, i, 0);
    std::string file = testing::safetensors_file(kHeaders[i % kHeaders.size()], std::string(12, 'd'));
    file = mutated(file, random);
    if (random.uniform_int(4) == 0) file.resize(random.uniform_int(file.size() + 1));
    ASSERT_NO_THROW(num_accepted += testing::check_safetensors(file)) << ::testing::PrintToString(file);
  }
  EXPECT_GT(num_accepted, 100);
  EXPECT_LT(num_accepted, 10'000);
}

// Changes of single bytes seldom give a hole or an overlap and nothing else.
TEST(SafetensorsFuzz, RandomLayoutsAreTakenExactlyWhenTheyCoverTheDataOnce) {
  constexpr std::uint64_t kDataBytes = 4;
  int num_accepted = 0;
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    KeyedRandom random(3, Purpose::kTest, i, 0);
    Header header;
    for (std::uint64_t tensor = 0, count = 1 + random.uniform_int(3); tensor < count; ++tensor) {
      const std::uint64_t begin = random.uniform_int(kDataBytes);
      const std::uint64_t end = begin + 1 + random.uniform_int(kDataBytes + 1 - begin);
      header.tensors[std::string(1, static_cast<char>('a' + tensor))] = {
          DType::kU8, {static_cast<std::int64_t>(end - begin)}, begin, end};
    }
    const std::string text = testing::header_text(header);
    const std::string file = testing::safetensors_file(text, std::string(kDataBytes, 'd'));
    header.data_offset_bytes = 8 + text.size();
    const bool valid = testing::broken_promise(header, file.size()).empty();
    ASSERT_EQ(testing::check_safetensors(file), valid) << text;
    num_accepted += valid;
  }
  EXPECT_GT(num_accepted, 500);
  EXPECT_LT(num_accepted, 10'000);
}

}  // namespace
}  // namespace cosub::safetensors
