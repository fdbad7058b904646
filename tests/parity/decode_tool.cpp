// decode_tool CASES OUTPUT: decodes and resizes images as the loader does, many in one process. CASES has a
// line for each: FILE CHANNELS TOP LEFT HEIGHT WIDTH, for the region that is decoded (HEIGHT 0: the whole
// image), then OUT_HEIGHT OUT_WIDTH FILTER (OUT_HEIGHT 0: not resized; FILTER: bilinear or bicubic). OUTPUT:
// their bytes, one after another.
#include <cstdio>
#include <exception>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "common/atomic_file.h"
#include "worker/data/image/decode.h"
#include "worker/data/resize.h"

namespace {

using namespace cosub;
using namespace cosub::data;

struct Case {
  std::string file;
  std::int64_t channels = 3;
  Region region;
  std::int64_t out_height = 0, out_width = 0;
  std::string filter;
};

Case parse(const std::string& line) {
  std::istringstream in(line);
  Case c;
  Region& region = c.region;
  if (!(in >> c.file >> c.channels >> region.top >> region.left >> region.height >> region.width >>
        c.out_height >> c.out_width >> c.filter)) {
    throw std::runtime_error("decode_tool: not understood: " + line);
  }
  return c;
}

Image made(const Case& c) {
  const std::string text = read_file(c.file);
  const std::span bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  const ImageInfo info = read_info(bytes);
  const Region region = c.region.height > 0 ? c.region : Region{0, 0, info.height, info.width};
  Image image, resized;
  decode(bytes, region, c.channels, image);
  if (c.out_height == 0) return image;
  resize(image, c.out_height, c.out_width,
         c.filter == "bilinear" ? config::Interpolation::kBilinear : config::Interpolation::kBicubic,
         resized);
  return resized;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: decode_tool CASES OUTPUT");
  std::ifstream cases(argv[1]);
  std::ofstream output(argv[2], std::ios::binary);
  for (std::string line; std::getline(cases, line);) {
    const Image image = made(parse(line));
    output.write(reinterpret_cast<const char*>(image.pixels.data()),
                 static_cast<std::streamsize>(image.height * image.row_bytes()));
  }
  output.close();
  if (!output) throw std::runtime_error("decode_tool: the output cannot be written");
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
