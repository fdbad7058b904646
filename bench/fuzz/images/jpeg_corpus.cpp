// Valid JPEG files of every kind that libjpeg-turbo writes, for a fuzzer to begin with: jpeg_corpus FOLDER.
// Colour spaces, sampling factors, Huffman and arithmetic coding, restart markers, scans, foreign segments.
#include <cstdio>  // before jpeglib.h, which does not include what it needs
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <jpeglib.h>

#include "common/atomic_file.h"
#include "tests/worker/data/image/images.h"

namespace cosub::data {
namespace {

struct Kind {
  J_COLOR_SPACE space = JCS_YCbCr;
  int components = 3;
  int height = 20, width = 28;
  std::vector<int> sampling;  // horizontal and vertical, of each component in turn; 1 where it ends
  bool optimize = true, progressive = false, arithmetic = false;
  int restart_interval = 0;  // blocks
  std::vector<jpeg_scan_info> scans = {};
  std::vector<std::pair<int, std::string>> segments = {};
};

void encode(const std::filesystem::path& path, const Kind& kind) {
  jpeg_compress_struct info{};
  jpeg_error_mgr manager{};
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  info.err = jpeg_std_error(&manager);  // an error ends the program
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_width = kind.width;
  info.image_height = kind.height;
  info.input_components = kind.components;
  info.in_color_space = kind.space;  // no conversion: the pixels' meaning does not matter here
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, kind.space);
  jpeg_set_quality(&info, 40, TRUE);
  for (int c = 0; c < kind.components; ++c) {
    const auto at = static_cast<std::size_t>(2 * c);
    info.comp_info[c].h_samp_factor = at < kind.sampling.size() ? kind.sampling[at] : 1;
    info.comp_info[c].v_samp_factor = at + 1 < kind.sampling.size() ? kind.sampling[at + 1] : 1;
  }
  info.optimize_coding = kind.optimize && !kind.arithmetic;  // of Huffman tables
  info.arith_code = kind.arithmetic;
  info.restart_interval = kind.restart_interval;
  if (kind.progressive) jpeg_simple_progression(&info);
  if (!kind.scans.empty()) {
    info.scan_info = kind.scans.data();
    info.num_scans = static_cast<int>(kind.scans.size());
  }
  jpeg_start_compress(&info, TRUE);
  for (const auto& [marker, text] : kind.segments) {
    jpeg_write_marker(&info, marker, reinterpret_cast<const JOCTET*>(text.data()), text.size());
  }
  const Image image = testing::make_photograph(kind.height, kind.width * kind.components, 1);
  for (int y = 0; y < kind.height; ++y) {
    auto* row = const_cast<JSAMPROW>(image.row(y));
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  write_file_atomically(path, std::string(bytes, bytes + size));
  jpeg_destroy_compress(&info);
  std::free(bytes);
}

jpeg_scan_info scan(const std::vector<int>& components, int first, int last, int high, int low) {
  jpeg_scan_info info{};
  info.comps_in_scan = static_cast<int>(components.size());
  std::copy(components.begin(), components.end(), info.component_index);
  info.Ss = first;
  info.Se = last;
  info.Ah = high;
  info.Al = low;
  return info;
}

void fill(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const std::vector<std::pair<std::string, std::vector<int>>> samplings = {
      {"444", {}},     {"422", {2, 1}},       {"420", {2, 2}},
      {"440", {1, 2}}, {"411", {4, 1}},       {"410", {4, 2}},
      {"311", {3, 1}}, {"odd", {2, 2, 2, 1}}, {"small_luma", {1, 1, 2, 2}}};
  for (const auto& [name, sampling] : samplings) {
    encode(folder / ("ycbcr_" + name), {.sampling = sampling});
    encode(folder / ("progressive_" + name), {.sampling = sampling, .progressive = true});
    encode(folder / ("restarts_" + name), {.sampling = sampling, .restart_interval = 2});
  }
  for (const auto& [name, space, components] : std::vector<std::tuple<std::string, J_COLOR_SPACE, int>>{
           {"grey", JCS_GRAYSCALE, 1}, {"rgb", JCS_RGB, 3}, {"cmyk", JCS_CMYK, 4}, {"ycck", JCS_YCCK, 4}}) {
    encode(folder / name, {.space = space, .components = components});
    encode(folder / (name + "_1x1"), {.space = space, .components = components, .height = 1, .width = 1});
    encode(folder / (name + "_standard_tables"),
           {.space = space, .components = components, .optimize = false});
    encode(folder / (name + "_progressive"), {.space = space, .components = components, .progressive = true});
    encode(folder / (name + "_arithmetic"), {.space = space, .components = components, .arithmetic = true});
  }
  encode(folder / "arithmetic_progressive",
         {.sampling = {2, 2}, .progressive = true, .arithmetic = true, .restart_interval = 2});
  encode(folder / "ycck_420", {.space = JCS_YCCK, .components = 4, .sampling = {2, 2, 1, 1, 1, 1, 2, 2}});
  encode(folder / "grey_2x2", {.space = JCS_GRAYSCALE, .components = 1, .sampling = {2, 2}});
  encode(folder / "two_components", {.space = JCS_UNKNOWN, .components = 2});
  encode(folder / "large", {.height = 70, .width = 90, .sampling = {2, 2}, .restart_interval = 6});
  encode(folder / "one_scan_each",
         {.sampling = {2, 2},
          .scans = {scan({0}, 0, 63, 0, 0), scan({1}, 0, 63, 0, 0), scan({2}, 0, 63, 0, 0)}});
  // Not all coefficients: the decoder smooths between blocks.
  encode(folder / "averages_only", {.height = 40, .width = 60, .scans = {scan({0, 1, 2}, 0, 0, 0, 1)}});
  encode(folder / "coarse",
         {.height = 60,
          .width = 40,
          .sampling = {2, 2},
          .scans = {scan({0, 1, 2}, 0, 0, 0, 1), scan({0}, 1, 5, 0, 2), scan({0, 1, 2}, 0, 0, 1, 0)}});
  encode(
      folder / "segments",
      {.segments = {{JPEG_APP0 + 1, std::string("Exif\0\0MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\6\0\0", 28)},
                    {JPEG_APP0 + 2, std::string("ICC_PROFILE\0\1\1profile", 21)},
                    {JPEG_APP0 + 14, std::string("Adobe\0d\0\0\0\0\1", 12)},
                    {JPEG_COM, "a comment"},
                    {JPEG_COM, ""}}});
}

}  // namespace
}  // namespace cosub::data

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: jpeg_corpus FOLDER\n");
    return 2;
  }
  cosub::data::fill(argv[1]);
  return 0;
}
