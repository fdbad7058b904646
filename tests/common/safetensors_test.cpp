#include "common/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>
#include <stdexcept>

#include "common/atomic_file.h"
#include "common/error.h"
#include "tests/support/safetensors_contract.h"
#include "tests/support/temporary_folder.h"

namespace cosub::safetensors {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::ThrowsMessage;

std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string file_of(const std::string& header, const std::string& data) {
  return testing::safetensors_file(header, data);
}

Header parse(const std::string& file) {
  return testing::parse_safetensors(file, "x.safetensors");
}

const std::string kTensorA = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
const std::string kTensorB = R"("b":{"dtype":"U8","shape":[2,2],"data_offsets":[8,12]})";
const std::string kGood = "{" + kTensorA + "," + kTensorB + R"(,"__metadata__":{"format":"pt"}})";
const std::string kData(12, 'd');

struct Defect {
  const char* name;
  std::string file;
  std::string message;
};

void PrintTo(const Defect& defect, std::ostream* out) {
  *out << defect.name;
}  // ctest's names hold it

std::string one(const std::string& tensor, std::size_t num_data_bytes = 8) {
  return file_of("{\"a\":" + tensor + "}", std::string(num_data_bytes, 'd'));
}

std::string repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

std::vector<Defect> defects() {
  const std::string good = file_of(kGood, kData);
  return {
      {"NoHeader", "1234567", "only 7 bytes long"},
      {"HeaderLengthAboveLimit", std::string(8, '\xff'), "above the limit"},
      {"HeaderLongerThanFile", good.substr(0, 40), "cut short: at least 108 bytes are missing"},
      {"CutData", good.substr(0, good.size() - 1),
       "cut short: 1 bytes are missing (its tensors need 12, 11 are there)"},
      {"BytesAtTheEnd", good + "x", "1 bytes at its end belong to no tensor"},
      {"NoJson", file_of("{\"a\":", ""), "not valid JSON"},
      {"NulInHeader", file_of(std::string("{}\0x", 4), ""), "NUL"},
      {"NoUtf8", file_of("{\"\xff\":1}", ""), "not valid JSON"},
      {"RootIsArray", file_of("[]", ""), "does not begin with '{'"},
      {"RootIsNumber", file_of("7", ""), "does not begin with '{'"},
      {"Zeros", std::string(100, '\0'), "begins with zeros"},
      {"TensorIsNumber", one("7"), "tensor \"a\": a number instead of an object"},
      {"TwoTensorsOfAName", file_of("{" + kTensorA + "," + kTensorA + "}", kData),
       "\"a\": the name is there twice"},
      {"TwoMetadata", file_of(R"({"__metadata__":{},"__metadata__":{}})", ""), "twice"},
      {"KeyTwice", one(R"({"dtype":"F32","dtype":"U8","shape":[2],"data_offsets":[0,8]})"),
       "\"dtype\" is there twice"},
      {"UnknownKey", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1})"),
       "unknown key \"more\""},
      {"NoShape", one(R"({"dtype":"F32","data_offsets":[0,8]})"), "shape is missing"},
      {"NoOffsets", one(R"({"dtype":"F32","shape":[2]})"), "data_offsets is missing"},
      {"UnknownDType", one(R"({"dtype":"F33","shape":[2],"data_offsets":[0,8]})"),
       "tensor \"a\": unknown dtype \"F33\" (known: BOOL, U8, I8, I16, I32, I64, F16, BF16, F32, F64)"},
      {"DTypeIsNumber", one(R"({"dtype":1,"shape":[2],"data_offsets":[0,8]})"), "not allowed in \"dtype\""},
      {"ShapeIsText", one(R"({"dtype":"F32","shape":"2","data_offsets":[0,8]})"), "not allowed in \"shape\""},
      {"NegativeShape", one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), "a negative number"},
      {"FractionalShape", one(R"({"dtype":"F32","shape":[2.5],"data_offsets":[0,8]})"), "the number \"2.5\""},
      {"NestedShape", one(R"({"dtype":"F32","shape":[[2]],"data_offsets":[0,8]})"),
       "an array is not allowed"},
      {"HugeExtent", one(R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]})"),
       "too large"},
      {"ExtentBeyond64Bits", one(R"({"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]})"),
       "number"},
      {"ShapeOverflows", one(R"({"dtype":"F32","shape":[4294967296,4294967297],"data_offsets":[0,8]})"),
       "too large"},
      {"ShapeWrapsToItsSize", one(R"({"dtype":"U8","shape":[4294967296,4294967296,8],"data_offsets":[0,8]})"),
       "too large"},
      {"EmptyWithExtentsThatOverflow",
       one(R"({"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]})", 0), "too large"},
      {"TooManyDimensions",
       one(R"({"dtype":"U8","shape":[1)" + repeated(",1", 64) + R"(],"data_offsets":[0,1]})", 1),
       "more than 64 dimensions"},
      {"OneOffset", one(R"({"dtype":"F32","shape":[2],"data_offsets":[8]})"), "must be two numbers"},
      {"ThreeOffsets", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})"), "must be two numbers"},
      {"OffsetsReversed", one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"),
       "end before they begin"},
      {"OffsetsDoNotFitShape", one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), "span 8 bytes"},
      {"OffsetsPastTheEnd",
       one(R"({"dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615]})"),
       "belong to none"},
      {"Hole", one(R"({"dtype":"F32","shape":[2],"data_offsets":[4,12]})", 12),
       "4 bytes before tensor \"a\""},
      {"Overlap",
       file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
               R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
               kData),
       "\"b\" overlaps"},
      {"MetadataIsNested", file_of(R"({"__metadata__":{"a":{"b":"c"}}})", ""), "an object is not allowed"},
      {"MetadataIsNumber", file_of(R"({"__metadata__":{"a":1}})", ""), "a number is not allowed"},
      {"DeepNesting", file_of("{\"a\":" + std::string(1'000'000, '['), ""), "an array instead of an object"},
  };
}

class DamagedFile : public ::testing::TestWithParam<Defect> {};

TEST_P(DamagedFile, IsNamedWithItsDefect) {
  EXPECT_THAT([] { parse(GetParam().file); },
              ThrowsMessage<DataError>(AllOf(HasSubstr("x.safetensors: "), HasSubstr(GetParam().message))));
}

INSTANTIATE_TEST_SUITE_P(Kinds, DamagedFile, ::testing::ValuesIn(defects()),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

TEST(ParseHeader, ReadsTensorsAndMetadata) {
  const Header header = parse(file_of(kGood + "   ", kData));
  EXPECT_EQ(header.tensors.at("a"), (TensorInfo{DType::kF32, {2}, 0, 8}));
  EXPECT_EQ(header.tensors.at("b"), (TensorInfo{DType::kU8, {2, 2}, 8, 12}));
  EXPECT_EQ(header.metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(header.data_offset_bytes, 8 + kGood.size() + 3);
}

TEST(ParseHeader, TakesScalarsAndEmptyTensors) {
  const Header header = parse(file_of(R"({"e":{"dtype":"F64","shape":[3,0],"data_offsets":[0,0]},)"
                                      R"("s":{"dtype":"I16","shape":[],"data_offsets":[0,2]}})",
                                      "xx"));
  EXPECT_TRUE(header.tensors.at("s").shape.empty());
  EXPECT_EQ(parse(file_of("{}", "")).tensors.size(), 0U);
}

struct Foreign {
  const char* name;
  std::string file;
  std::vector<std::string> message;
};

void PrintTo(const Foreign& foreign, std::ostream* out) {
  *out << foreign.name;
}

const std::vector<std::string> kConversion = {
    "torch.load(\"w/x.pth\", map_location=\"cpu\", weights_only=True)",
    "w.get(\"model\", w)",
    "w.get(\"state_dict\", w)",
    ".contiguous()",
    "safetensors.torch.save_file(",
    "\"w/x.safetensors\")"};

std::vector<std::string> and_conversion(const std::string& what) {
  std::vector<std::string> parts = kConversion;
  parts.push_back("w/x.pth is " + what);
  return parts;
}

/// The first bytes of a zip whose first member has that name, as PyTorch and NumPy write them.
std::string zip(const std::string& member) {
  std::string file("PK\x03\x04\0\0\x08\x08", 8);
  file.resize(26, '\0');
  file += static_cast<char>(member.size());
  file += '\0';
  file += std::string(2, '\0') + member;
  return file + std::string(100, '\1');
}

std::vector<Foreign> foreign_files() {
  return {
      {"PyTorch", zip("archive/data.pkl"), and_conversion("a zip archive, as torch.save writes")},
      {"PyTorchCut", "PK\x03\x04" + std::string(8, '\0'),
       and_conversion("a zip archive, as torch.save writes")},
      {"OldPyTorch", "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.", and_conversion("a Python pickle")},
      {"Npz", zip("weight.npy"), {"NumPy archive (.npz)", "numpy.load(\"w/x.pth\")", "\"w/x.safetensors\")"}},
      {"Npy", std::string("\x93NUMPY\x01\0v\0{'descr'", 18), {"NumPy array (.npy)"}},
      {"Hdf5", "\x89HDF\r\n\x1a\n" + std::string(20, '\0'), {"HDF5 file (as Keras writes)"}},
      {"Gzip", std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03", 10), {"gzip-compressed", "gunzip"}},
      {"LfsPointer",
       "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n",
       {"a Git LFS pointer", "git lfs pull"}},
      {"Html", "<!DOCTYPE html>\n<html><head>", {"an HTML page", "Download the weights themselves"}},
      {"HtmlAfterBlanks", "\r\n\r\n  <HTML lang=en>", {"an HTML page"}},
      {"Json",
       "{\n  \"metadata\": {\"total_size\": 1}}",
       {"is JSON text (an index of weights in several files"}},
      {"JsonOnALine", "{\"error\":\"Access denied\"}", {"is JSON text"}},
  };
}

class ForeignFile : public ::testing::TestWithParam<Foreign> {};

TEST_P(ForeignFile, IsNamedWithWhatToDoAboutIt) {
  for (const std::string& part : GetParam().message)
    EXPECT_THAT([] { testing::parse_safetensors(GetParam().file, "w/x.pth"); },
                ThrowsMessage<DataError>(AllOf(StartsWith("w/x.pth is "), HasSubstr(part))));
}

INSTANTIATE_TEST_SUITE_P(Kinds, ForeignFile, ::testing::ValuesIn(foreign_files()),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

TEST(ForeignFile, IsNotConvertedOntoItself) {
  EXPECT_THAT([] { testing::parse_safetensors(zip("archive/data.pkl"), "say \"x\".safetensors"); },
              ThrowsMessage<DataError>(AllOf(HasSubstr(R"(torch.load("say \"x\".safetensors",)"),
                                             HasSubstr(R"("say \"x\".converted.safetensors"))"))));
}

// A length that spells what another format begins with does not make a valid file foreign.
TEST(ForeignFile, IsNoneThatIsValid) {
  const std::string file = file_of(kGood + std::string(0x080b1f - kGood.size(), ' '), kData);
  EXPECT_EQ(parse(file).tensors.size(), 2U);
  EXPECT_EQ(parse(file_of(kGood + std::string(0x088b1f - kGood.size(), ' '), kData)).tensors.size(), 2U);
}

std::vector<Entry> example_entries(const std::string& a, const std::string& b, const std::string& c) {
  return {{"layer.weight", DType::kF32, {2, 3}, bytes(a)},
          {"layer.steps", DType::kI64, {}, bytes(b)},
          {"layer.mask", DType::kBool, {3}, bytes(c)}};
}

TEST(Write, FileComesBackEqual) {
  const testing::TemporaryFolder folder;
  const std::string a(24, 'a'), b(8, 'b'), c(3, 'c');
  write(folder / "x", example_entries(a, b, c), {{"format", "pt"}});
  const File file(folder / "x");
  EXPECT_EQ(file.header().tensors.size(), 3U);
  EXPECT_EQ(file.header().tensors.at("layer.weight").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.header().metadata.at("format"), "pt");
  const auto equal = [&](const char* name, const std::string& want) {
    const auto found = file.bytes(name);
    return std::string(reinterpret_cast<const char*>(found.data()), found.size()) == want;
  };
  EXPECT_TRUE(equal("layer.weight", a));
  EXPECT_TRUE(equal("layer.steps", b));
  EXPECT_TRUE(equal("layer.mask", c));
}

TEST(Write, AlignsEveryTensorToItsElements) {
  const testing::TemporaryFolder folder;
  const std::string a(24, 'a'), b(8, 'b'), c(3, 'c');
  write(folder / "x", example_entries(a, b, c));
  const File file(folder / "x");
  for (const auto& [name, info] : file.header().tensors)
    EXPECT_EQ((file.header().data_offset_bytes + info.begin_bytes) % size_of(info.dtype), 0U) << name;
}

TEST(Write, EqualContentGivesEqualBytesInAnyOrder) {
  const testing::TemporaryFolder folder;
  const std::string a(24, 'a'), b(8, 'b'), c(3, 'c');
  std::vector<Entry> entries = example_entries(a, b, c);
  write(folder / "x", entries);
  std::reverse(entries.begin(), entries.end());
  write(folder / "y", entries);
  EXPECT_EQ(read_file(folder / "x"), read_file(folder / "y"));
}

TEST(Write, NeverReplacesAFile) {
  const testing::TemporaryFolder folder;
  write_file_atomically(folder / "x", "old");
  EXPECT_THROW(write(folder / "x", {}), IoError);
  EXPECT_EQ(read_file(folder / "x"), "old");
}

TEST(Write, RefusesWhatCannotBeReadBack) {
  const testing::TemporaryFolder folder;
  const std::string a(4, 'a');
  const Entry good{"a", DType::kF32, {1}, bytes(a)};
  EXPECT_THROW(write(folder / "x", {good, good}), std::invalid_argument);
  EXPECT_THROW(write(folder / "x", {{"a", DType::kF32, {2}, bytes(a)}}), std::invalid_argument);
  EXPECT_THROW(write(folder / "x", {{"__metadata__", DType::kF32, {1}, bytes(a)}}), std::invalid_argument);
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
}

TEST(File, UnknownTensorSuggestsTheNearest) {
  const testing::TemporaryFolder folder;
  const std::string a(4, 'a');
  write(folder / "x", {{"head.weight", DType::kF32, {1}, bytes(a)}});
  const File file(folder / "x");
  EXPECT_THAT([&] { file.bytes("head.wieght"); },
              ThrowsMessage<DataError>(AllOf(HasSubstr("head.wieght"), HasSubstr("'head.weight'"))));
}

TEST(File, MissingFolderAndEmptyAreNamed) {
  const testing::TemporaryFolder folder;
  EXPECT_THAT([&] { File file(folder / "none"); },
              ThrowsMessage<IoError>(HasSubstr((folder / "none").string())));
  EXPECT_THAT([&] { File file(folder.path()); }, ThrowsMessage<DataError>(HasSubstr("is not a file")));
  write_file_atomically(folder / "empty", "");
  EXPECT_THAT([&] { File file(folder / "empty"); },
              ThrowsMessage<DataError>(HasSubstr("is empty (0 bytes)")));
}

}  // namespace
}  // namespace cosub::safetensors
