// Valid safetensors files by our own writer, for a fuzzer to begin with: safetensors_corpus FOLDER. Every
// dtype, scalars, empty tensors, odd names, metadata.
#include <cstdio>
#include <filesystem>
#include <list>
#include <utility>

#include "common/safetensors.h"

namespace cosub::safetensors {
namespace {

class Corpus {
 public:
  explicit Corpus(std::filesystem::path folder) : folder_(std::move(folder)) {
    std::filesystem::create_directories(folder_);
  }

  Corpus& tensor(const std::string& name, DType dtype, const std::vector<std::int64_t>& shape) {
    std::size_t size = size_of(dtype);
    for (const std::int64_t extent : shape) size *= static_cast<std::size_t>(extent);
    entries_.push_back({name, dtype, shape, data_.emplace_back(size, std::byte{7})});
    return *this;
  }
  void file(const std::string& name, const std::map<std::string, std::string>& metadata = {}) {
    std::filesystem::remove(folder_ / name);
    write(folder_ / name, std::exchange(entries_, {}), metadata);
  }

 private:
  std::filesystem::path folder_;
  std::list<std::vector<std::byte>> data_;
  std::vector<Entry> entries_;
};

void fill(const std::filesystem::path& folder) {
  Corpus corpus(folder);
  corpus.file("nothing");
  corpus.file("metadata_alone", {{"format", "pt"}});
  for (int i = 0; i < 10; ++i) {
    const auto dtype = static_cast<DType>(i);
    corpus.tensor("w", dtype, {2, 3}).file("one_" + std::string(name_of(dtype)));
  }
  corpus.tensor("scalar", DType::kF32, {}).tensor("steps", DType::kI64, {}).file("scalars");
  corpus.tensor("a", DType::kF16, {0}).tensor("b", DType::kF64, {3, 0, 2}).file("empty_tensors");
  corpus.tensor("e", DType::kU8, {0, 4}).tensor("f", DType::kU8, {4}).file("empty_and_full");
  corpus.tensor("sch\u00f6n", DType::kU8, {1})
      .tensor("\u91cd\u307f", DType::kBool, {2})
      .tensor("\U0001f600 \"quoted\"\\\n", DType::kI8, {1})
      .tensor("", DType::kI16, {1})
      .file("names", {{"\u00fc", "\u4f60\u597d"}, {"", ""}, {"escapes", "\t\r\n\b\f\x01\\/\""}});
  corpus.tensor("blocks.0.attn.qkv.weight", DType::kF32, {6, 2})
      .tensor("blocks.0.attn.qkv.bias", DType::kF32, {6})
      .tensor("blocks.0.norm1.weight", DType::kBF16, {2})
      .tensor("bn1.num_batches_tracked", DType::kI64, {})
      .tensor("mask", DType::kBool, {3})
      .file("model", {{"format", "pt"}, {"step", "100"}});
  corpus.tensor("deep", DType::kU8, {1, 1, 2, 1, 1, 1, 2, 1, 1, 1}).file("many_dimensions");
  corpus.tensor("deepest", DType::kBool, std::vector<std::int64_t>(64, 1)).file("most_dimensions");
}

}  // namespace
}  // namespace cosub::safetensors

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: safetensors_corpus FOLDER\n");
    return 2;
  }
  cosub::safetensors::fill(argv[1]);
  return 0;
}
