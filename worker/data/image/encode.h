// Pixels to encoded image files, for packing data sets and for tests. Pure; on the calling thread.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/data/image/image.h"

namespace cosub::data {

enum class Subsampling { k444, k422, k420 };  // of the colours

/// Defaults are Pillow's, but for Huffman tables made for the image (smaller, same pixels).
struct JpegOptions {
  int quality = 75;  // 1 to 100
  Subsampling subsampling = Subsampling::k420;
  bool progressive = false;
  int restart_rows = 0;  // a restart marker after so many rows of blocks; 0: none
};

/// Each takes 1 (grey) or 3 (RGB) channels. DataError when the format cannot hold an image of this size.
std::vector<std::uint8_t> encode_jpeg(const Image& image, const JpegOptions& options = {});
std::vector<std::uint8_t> encode_png(const Image& image);
std::vector<std::uint8_t> encode_pnm(const Image& image);  // P5 or P6, as fast to read as pixels can be

}  // namespace cosub::data
