// Samples of segmentation: a folder of images and a folder of masks, paired by their path below it without
// extension. Opened once by each rank, shared by its threads and never changed, as a Source.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "worker/data/image/image.h"

namespace cosub::data {

/// images/training/a.jpg belongs to masks/training/a.png.
struct PairFolders {
  std::filesystem::path images, masks;
  std::filesystem::path list = {};  // of the samples to use, in this order; empty: every image
  std::int64_t limit = 0;           // only the first so many; 0: all
};

/// A sample as it is stored. The bytes lie in the buffers it was read into.
struct StoredPair {
  std::span<const std::uint8_t> image;  // for decode()
  std::span<const std::uint8_t> mask;   // for decode_mask()
};

class PairSource {
 public:
  /// Lists both folders; blocks. Images are files with torchvision's extensions, in the order of their
  /// folders and names; masks are *.png. `list` has one path below the folders without extension a line, as
  /// VOC's ImageSets/Segmentation/train.txt. Each sample must have both its files: DataError names the first
  /// that lacks one and says how many more do. Masks that no sample asks for are not looked at, as a set may
  /// well have masks for more than the images that are used. DataError also when a folder, an image or a mask
  /// is missing altogether, or a path has two images; IoError when a folder or the list cannot be read.
  explicit PairSource(const PairFolders& folders);

  std::int64_t size() const { return static_cast<std::int64_t>(pairs_.size()); }
  std::string name(std::int64_t index) const { return (images_ / pairs_.at(index).image).string(); }
  std::string mask_name(std::int64_t index) const { return (masks_ / pairs_.at(index).mask).string(); }

  /// The buffers belong to the calling thread; what is returned lives until they are used again. DataError
  /// when one of the files is damaged or gone, IoError when it cannot be read just now; both name it.
  StoredPair read(std::int64_t index, ByteBuffer& image, ByteBuffer& mask) const;

 private:
  struct Pair {
    std::string image, mask;  // below their folders
  };

  std::filesystem::path images_, masks_;
  std::vector<Pair> pairs_;
};

}  // namespace cosub::data
