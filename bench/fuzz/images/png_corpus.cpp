// Valid PNG files of every kind, for a fuzzer to begin with: png_corpus FOLDER. Colour types and bit depths,
// interlaced or not, transparency, ancillary chunks.
#include <png.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "common/atomic_file.h"
#include "tests/worker/data/image/images.h"

namespace cosub::data {
namespace {

struct Kind {
  int color = PNG_COLOR_TYPE_RGB, depth = 8;
  int height = 11, width = 13;
  bool interlaced = false, transparent = false, ancillary = false;
};

void set_ancillary(png_structp png, png_infop info) {
  png_set_gAMA(png, info, 0.45455);
  png_set_pHYs(png, info, 2835, 2835, PNG_RESOLUTION_METER);
  png_text texts[2]{};
  for (png_text& text : texts) text.key = const_cast<char*>("Comment");
  texts[0].compression = PNG_TEXT_COMPRESSION_NONE;
  texts[0].text = const_cast<char*>("plain");
  texts[1].compression = PNG_TEXT_COMPRESSION_zTXt;
  texts[1].text = const_cast<char*>("compressed compressed compressed");
  png_set_text(png, info, texts, 2);
}

void encode(const std::filesystem::path& path, const Kind& kind) {
  std::string bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);  // an error ends the program
  png_set_write_fn(
      png, &bytes,
      [](png_structp writer, png_bytep data, std::size_t size) {
        static_cast<std::string*>(png_get_io_ptr(writer))->append(reinterpret_cast<char*>(data), size);
      },
      nullptr);
  png_set_IHDR(png, info, kind.width, kind.height, kind.depth, kind.color,
               kind.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  std::vector<png_color> palette;
  if (kind.color == PNG_COLOR_TYPE_PALETTE) {
    for (int i = 0; i < 1 << kind.depth; ++i) {
      palette.push_back(
          {static_cast<png_byte>(i), static_cast<png_byte>(255 - i), static_cast<png_byte>(i * 7)});
    }
    png_set_PLTE(png, info, palette.data(), static_cast<int>(palette.size()));
  }
  png_byte alphas[] = {0, 128};
  png_color_16 colour{.index = 0, .red = 1, .green = 1, .blue = 1, .gray = 1};
  if (kind.transparent) png_set_tRNS(png, info, alphas, 2, &colour);
  if (kind.ancillary) set_ancillary(png, info);
  png_write_info(png, info);
  png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_ALL_FILTERS);
  const auto row_bytes = static_cast<std::int64_t>(png_get_rowbytes(png, info));
  Image image = testing::make_photograph(kind.height, row_bytes, 1);
  std::vector<png_bytep> rows;
  for (int y = 0; y < kind.height; ++y) rows.push_back(image.row(y));
  png_write_image(png, rows.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  write_file_atomically(path, bytes);
}

void fill(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const std::vector<std::tuple<std::string, int, std::vector<int>>> colours = {
      {"grey", PNG_COLOR_TYPE_GRAY, {1, 2, 4, 8, 16}},
      {"palette", PNG_COLOR_TYPE_PALETTE, {1, 2, 4, 8}},
      {"rgb", PNG_COLOR_TYPE_RGB, {8, 16}},
      {"grey_alpha", PNG_COLOR_TYPE_GRAY_ALPHA, {8, 16}},
      {"rgb_alpha", PNG_COLOR_TYPE_RGB_ALPHA, {8, 16}}};
  for (const auto& [name, color, depths] : colours) {
    const bool has_alpha = (color & PNG_COLOR_MASK_ALPHA) != 0;
    for (const int depth : depths) {
      for (const bool interlaced : {false, true}) {
        const std::string base = name + "_" + std::to_string(depth) + (interlaced ? "_interlaced" : "");
        encode(folder / base, {.color = color, .depth = depth, .interlaced = interlaced});
        if (has_alpha) continue;
        encode(folder / (base + "_transparent"),
               {.color = color, .depth = depth, .interlaced = interlaced, .transparent = true});
      }
    }
  }
  encode(folder / "one_pixel", {.height = 1, .width = 1, .interlaced = true});
  encode(folder / "high", {.height = 60, .width = 1});
  encode(folder / "ancillary", {.ancillary = true});
}

}  // namespace
}  // namespace cosub::data

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: png_corpus FOLDER\n");
    return 2;
  }
  cosub::data::fill(argv[1]);
  return 0;
}
