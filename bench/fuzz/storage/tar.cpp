// libFuzzer on TarReader; run by bench/fuzz/run. Every member must lie inside the file, behind the one
// before, and be named by where its data are.
#include "worker/data/storage/tar.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>

#include "bench/fuzz/input_file.h"
#include "common/error.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace cosub::fuzz {
namespace {

constexpr std::size_t kBlock = 512, kChecksum = 148, kChecksumBytes = 8;

/// Without a sound checksum nearly nothing would be refused later than there.
void mend_checksums(std::uint8_t* data, std::size_t size) {
  for (std::size_t at = 0; at + kBlock <= size; at += kBlock) {
    std::uint8_t* header = data + at;
    if (std::memcmp(header + 257, "ustar", 5) != 0) continue;
    std::memset(header + kChecksum, ' ', kChecksumBytes);
    const unsigned sum = std::accumulate(header, header + kBlock, 0u);
    std::snprintf(reinterpret_cast<char*>(header + kChecksum), kChecksumBytes, "%06o", sum);
  }
}

/// One field of one header, or the text of a long name or pax header, changed in place.
void mutate_block(std::uint8_t* data, std::size_t size, std::minstd_rand& random) {
  struct Field {
    std::size_t at, size;
  };
  static constexpr Field kFields[] = {{0, 100}, {124, 12}, {156, 1}, {257, 8}, {345, 155}, {0, kBlock}};
  const Field field = kFields[random() % std::size(kFields)];
  std::uint8_t* block = data + random() % (size / kBlock) * kBlock;
  LLVMFuzzerMutate(block + field.at, field.size, field.size);
}

void check(const std::filesystem::path& path, std::size_t size) {
  try {
    data::TarReader::name_at(path, size / 2 / kBlock * kBlock);  // of what need not be a member
  } catch (const DataError& error) {
    promise(std::string(error.what()).starts_with(path.string()), error.what());
  }
  try {
    data::TarReader tar(path);
    promise(tar.file_size() == size, "another file size");
    std::uint64_t end = 0;
    for (data::TarMember member; tar.next(member);) {
      promise(member.offset >= end + kBlock, "a member that lies over the one before");
      promise(member.offset <= size && member.size <= size - member.offset, "a member outside the file");
      promise(tar.read(member, 1000).size() == std::min<std::uint64_t>(member.size, 1000), "another size");
      promise(data::TarReader::name_at(path, member.offset) == member.name, "another name from its data");
      end = member.offset + member.size;
    }
  } catch (const DataError& error) {
    promise(std::string(error.what()).starts_with(path.string()), error.what());
  }
}

}  // namespace
}  // namespace cosub::fuzz

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  std::minstd_rand random(seed);
  const unsigned kind = random() % 4;
  if (kind == 0 || size < cosub::fuzz::kBlock) {
    size = LLVMFuzzerMutate(data, size, max_size);
  } else {
    cosub::fuzz::mutate_block(data, size, random);
  }
  if (kind < 3) cosub::fuzz::mend_checksums(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cosub::fuzz::check(cosub::fuzz::file_with(data, size), size);
  return 0;
}
