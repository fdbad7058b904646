// augment_tool pixels CASES INPUT OUTPUT: applies one operation to each of many images, in one process.
// augment_tool values CASES:              prints what is drawn or parsed, one line for each case.
// CASES has a line for each case: the operation and its arguments, and for pixels the image's height, width
// and channels between them. INPUT and OUTPUT are the images' bytes, one after another.
#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/error.h"
#include "worker/data/crop.h"
#include "worker/data/image/color_policy.h"
#include "worker/data/image/geometry.h"
#include "worker/data/image/photometric.h"
#include "worker/data/image/rand_augment.h"
#include "worker/data/image/random_erasing.h"

namespace {

using namespace cosub;
using namespace cosub::data;

template <typename T>
T next(std::istream& arguments) {
  std::string word;
  if (!(arguments >> word)) throw std::runtime_error("augment_tool: an argument is missing");
  if constexpr (std::is_same_v<T, std::string>) {
    return word;
  } else if constexpr (std::is_floating_point_v<T>) {
    return std::stod(word);  // hexadecimal too
  } else {
    return static_cast<T>(std::stoull(word));
  }
}

int next_int(std::istream& arguments) {
  return static_cast<int>(next<double>(arguments));
}

Warp next_warp(std::istream& arguments) {
  Warp warp;
  warp.resampling = next<std::string>(arguments) == "bilinear" ? Resampling::kBilinear : Resampling::kBicubic;
  for (std::uint8_t& value : warp.fill) value = static_cast<std::uint8_t>(next_int(arguments));
  return warp;
}

KeyedRandom next_random(std::istream& arguments) {
  return KeyedRandom(next<std::uint64_t>(arguments), Purpose::kTest, 0, 0);
}

RandOp next_op(std::istream& arguments) {
  return static_cast<RandOp>(next_int(arguments));
}

struct Buffers {
  Image image, scratch;
};
using PixelOp = std::function<void(std::istream& arguments, Buffers& buffers)>;

PixelOp with_factor(void (*op)(Image&, double)) {
  return [op](std::istream& in, Buffers& b) { op(b.image, next<double>(in)); };
}
PixelOp with_factor(void (*op)(Image&, double, Image&)) {
  return [op](std::istream& in, Buffers& b) { op(b.image, next<double>(in), b.scratch); };
}
PixelOp with_warp(void (*op)(Image&, double, const Warp&, Image&)) {
  return [op](std::istream& in, Buffers& b) {
    const double amount = next<double>(in);
    op(b.image, amount, next_warp(in), b.scratch);
  };
}
PixelOp plain(void (*op)(Image&)) {
  return [op](std::istream&, Buffers& b) { op(b.image); };
}

void jitter(std::istream& in, Buffers& b) {
  ColorJitter drawn;
  for (ColorJitter::Step& step : drawn.steps) {
    step.kind = static_cast<ColorJitter::Kind>(next_int(in));
    step.factor = next<double>(in);
  }
  apply(drawn, b.image);
}

void rand_op(std::istream& in, Buffers& b) {
  const RandOp op = next_op(in);
  const double magnitude = next<double>(in);
  const DrawnOp drawn = op_at(op, magnitude, next_int(in) != 0);
  apply(drawn, next_warp(in), b.image, b.scratch);
}

void three_augment(std::istream& in, Buffers& b) {
  ThreeAugment drawn;
  drawn.kind = static_cast<ThreeAugment::Kind>(next_int(in));
  drawn.sigma = next<double>(in);
  apply(drawn, b.image, b.scratch);
}

void crop_window(std::istream& in, Buffers& b) {
  const Padding padding = next<std::string>(in) == "reflect" ? Padding::kReflect : Padding::kZero;
  Region window;
  for (std::int64_t* value : {&window.top, &window.left, &window.height, &window.width}) {
    *value = next_int(in);
  }
  crop(b.image, window, padding, b.scratch);
  std::swap(b.image, b.scratch);
}

const std::map<std::string, PixelOp> kPixelOps = {
    {"invert", plain(invert)},
    {"solarize", [](std::istream& in, Buffers& b) { solarize(b.image, next_int(in)); }},
    {"solarize_add",
     [](std::istream& in, Buffers& b) {
       const int added = next_int(in);
       solarize_add(b.image, added, next_int(in));
     }},
    {"posterize", [](std::istream& in, Buffers& b) { posterize(b.image, next_int(in)); }},
    {"equalize", plain(equalize)},
    {"autocontrast", plain(autocontrast)},
    {"grayscale", plain(grayscale)},
    {"brightness", with_factor(adjust_brightness)},
    {"contrast", with_factor(adjust_contrast)},
    {"color", with_factor(adjust_color)},
    {"sharpness", with_factor(adjust_sharpness)},
    {"blur", with_factor(gaussian_blur)},
    {"shear_x", with_warp(shear_x)},
    {"shear_y", with_warp(shear_y)},
    {"translate_x", with_warp(translate_x)},
    {"translate_y", with_warp(translate_y)},
    {"rotate", with_warp(rotate)},
    {"rand_op", rand_op},
    {"jitter", jitter},
    {"three_augment", three_augment},
    {"crop", crop_window},
    {"flip", plain(flip_horizontally)},
};

std::string text_of(const Region& region) {
  return fmt::format("{} {} {} {}", region.top, region.left, region.height, region.width);
}

std::string random_resized_crop(std::istream& in) {
  KeyedRandom random = next_random(in);
  const int height = next_int(in), width = next_int(in);
  std::array<double, 4> range;
  for (double& value : range) value = next<double>(in);
  return text_of(draw_random_resized_crop(height, width, range[0], range[1], range[2], range[3], random));
}

std::string erasing(std::istream& in) {
  KeyedRandom random = next_random(in);
  const int height = next_int(in), width = next_int(in);
  ErasingConfig config;
  config.probability = next<double>(in);
  config.min_area = next<double>(in);
  config.max_area = next<double>(in);
  config.min_aspect = next<double>(in);
  config.min_count = next_int(in);
  config.max_count = next_int(in);
  std::string text;
  for (const ErasedBox& box : draw_erasing(config, height, width, random)) {
    text += fmt::format("{} {} ", text_of(box.region), box.noise);
  }
  return text;
}

/// The image of 1.5 everywhere after erasing, to see what changed.
std::string erased(std::istream& in) {
  ErasedBox box;
  box.noise = next<std::uint64_t>(in);
  const EraseMode mode = next<std::string>(in) == "const" ? EraseMode::kConst : EraseMode::kPixel;
  const int channels = next_int(in), height = next_int(in), width = next_int(in);
  for (std::int64_t* value : {&box.region.top, &box.region.left, &box.region.height, &box.region.width}) {
    *value = next_int(in);
  }
  std::vector<float> image(static_cast<std::size_t>(channels) * height * width, 1.5f);
  erase(box, mode, channels, height, width, image);
  return fmt::format("{}", fmt::join(image, " "));
}

std::string parsed(std::istream& in) {
  try {
    const config::RandAugmentConfig rand_augment = config::parse_rand_augment(next<std::string>(in));
    return fmt::format("{} {} {} {} {}", rand_augment.magnitude, rand_augment.magnitude_std,
                       rand_augment.magnitude_max, rand_augment.probability, rand_augment.num_ops);
  } catch (const ConfigError& error) {
    return fmt::format("error: {}", error.what());
  }
}

std::string argument_of_op(std::istream& in) {
  const RandOp op = next_op(in);
  const double magnitude = next<double>(in);
  return fmt::format("{}", op_at(op, magnitude, next_int(in) != 0).argument);
}

/// Ops and arguments of `count` images, each image's key one higher than the one before.
std::string drawn_ops(std::istream& in) {
  const config::RandAugmentConfig rand_augment = config::parse_rand_augment(next<std::string>(in));
  const int count = next_int(in);
  std::string text;
  for (int i = 0; i < count; ++i) {
    KeyedRandom random(1, Purpose::kTest, 0, i);
    for (const DrawnOp& drawn : draw_rand_augment(rand_augment, random)) {
      text += fmt::format("{} {} ", static_cast<int>(drawn.op), drawn.argument);
    }
  }
  return text;
}

const std::map<std::string, std::function<std::string(std::istream&)>> kValues = {
    {"random_resized_crop", random_resized_crop},
    {"erasing", erasing},
    {"erased", erased},
    {"parse_rand_augment", parsed},
    {"argument_of_op", argument_of_op},
    {"draw_rand_augment", drawn_ops},
};

std::ifstream open(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(fmt::format("augment_tool: cannot read {}", path));
  return file;
}

void run_pixels(const char* cases, const char* input, const char* output) {
  std::ifstream lines = open(cases), in = open(input);
  std::ofstream out(output, std::ios::binary);
  Buffers buffers;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream arguments(line);
    const auto name = next<std::string>(arguments);
    const int height = next_int(arguments), width = next_int(arguments);
    buffers.image.reshape(height, width, next_int(arguments));
    in.read(reinterpret_cast<char*>(buffers.image.row(0)), height * buffers.image.row_bytes());
    if (!in) throw std::runtime_error(fmt::format("augment_tool: {} ends within '{}'", input, line));
    kPixelOps.at(name)(arguments, buffers);
    const Image& image = buffers.image;
    out.write(reinterpret_cast<const char*>(image.row(0)), image.height * image.row_bytes());
  }
  out.close();
  if (!out) throw std::runtime_error(fmt::format("augment_tool: cannot write {}", output));
}

void run_values(const char* cases) {
  std::ifstream lines = open(cases);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream arguments(line);
    fmt::print("{}\n", kValues.at(next<std::string>(arguments))(arguments));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  try {
    if (command == "pixels" && argc == 5) {
      run_pixels(argv[2], argv[3], argv[4]);
    } else if (command == "values" && argc == 3) {
      run_values(argv[2]);
    } else {
      fmt::print(stderr, "usage: augment_tool pixels CASES INPUT OUTPUT | values CASES\n");
      return 64;
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
  return 0;
}
