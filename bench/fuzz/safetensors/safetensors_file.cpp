// libFuzzer on safetensors::File and write: the input as a file in memory, every byte of every tensor read,
// written again and compared. Run by bench/fuzz/run.
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "bench/fuzz/input_file.h"
#include "bench/fuzz/safetensors/mutator.h"
#include "tests/support/safetensors_contract.h"

namespace cosub::fuzz {
namespace {

using safetensors::File;

void check_again(const File& file, const std::filesystem::path& path) {
  std::vector<safetensors::Entry> entries;
  for (const auto& [name, info] : file.header().tensors)
    entries.push_back({name, info.dtype, info.shape, file.bytes(name)});
  safetensors::write(path, entries, file.header().metadata);
  const File again(path);
  promise(again.header().metadata == file.header().metadata, "other metadata after writing");
  promise(again.header().tensors.size() == entries.size(), "other tensors after writing");
  for (const safetensors::Entry& entry : entries) {
    const safetensors::TensorInfo& info = again.header().tensors.at(entry.name);
    promise(info.dtype == entry.dtype && info.shape == entry.shape, "another shape after writing");
    promise(std::ranges::equal(again.bytes(entry.name), entry.bytes), "other bytes after writing");
  }
}

void check(const std::filesystem::path& path, std::size_t size) {
  try {
    const File file(path);
    const std::string broken = testing::broken_promise(file.header(), size);
    promise(broken.empty(), broken);
    try {
      file.bytes("no such tensor, by this name");
      promise(false, "bytes of a tensor that is not there");
    } catch (const DataError& error) {
      promise(std::string(error.what()).starts_with(path.string()), error.what());
    }
    const std::filesystem::path copy = "/dev/shm/cosub-fuzz-" + std::to_string(::getpid());
    ::unlink(copy.c_str());
    check_again(file, copy);
    ::unlink(copy.c_str());
  } catch (const DataError& error) {
    promise(std::string(error.what()).starts_with(path.string()), error.what());
  }
}

}  // namespace
}  // namespace cosub::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cosub::fuzz::check(cosub::fuzz::file_with(data, size), size);
  return 0;
}
