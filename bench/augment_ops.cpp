// augment_ops: what each training augmentation of an image costs on one thread, in microseconds per image
// (minimum and median over the calls; the copy that gives each call the same image is not counted).
//   build/release/bench/augment_ops --size 224 --calls 200
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "common/text.h"
#include "tests/worker/data/image/images.h"
#include "worker/data/image/color_policy.h"
#include "worker/data/image/photometric.h"
#include "worker/data/image/rand_augment.h"
#include "worker/data/image/random_erasing.h"

namespace {

using namespace cosub;
using namespace cosub::data;

struct Options {
  std::int64_t size = 224, channels = 3;
  int calls = 200;
};

struct Cost {
  double minimum = 0, median = 0;  // microseconds
};

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options),
        original_(testing::make_photograph(options.size, options.size, options.channels)) {}

  Cost measure(const std::string& name, const std::function<void(Image& image, Image& scratch)>& op) {
    std::vector<double> costs;
    for (int call = 0; call < options_.calls; ++call) {
      image_.reshape(original_.height, original_.width, original_.channels);
      std::copy(original_.row(0), original_.row(original_.height), image_.row(0));
      const auto start = std::chrono::steady_clock::now();
      op(image_, scratch_);
      const std::chrono::duration<double, std::micro> cost = std::chrono::steady_clock::now() - start;
      costs.push_back(cost.count());
    }
    std::sort(costs.begin(), costs.end());
    return add(name, {costs.front(), costs[costs.size() / 2]});
  }

  Cost add(const std::string& name, const Cost& cost) {
    rows_.push_back({name, fmt::format("{:.1f}", cost.minimum), fmt::format("{:.1f}", cost.median)});
    return cost;
  }

  std::string report() const { return table(rows_); }

 private:
  Options options_;
  Image original_, image_, scratch_;
  std::vector<std::vector<std::string>> rows_{{"operation", "minimum, us", "median, us"}};
};

Cost mean(const std::vector<Cost>& costs) {
  Cost sum;
  for (const Cost& cost : costs) {
    sum.minimum += cost.minimum / static_cast<double>(costs.size());
    sum.median += cost.median / static_cast<double>(costs.size());
  }
  return sum;
}

void three_augment(Bench& bench) {
  using Kind = ThreeAugment::Kind;
  std::vector<Cost> costs;
  for (const auto& [name, drawn] : {std::pair{"grayscale", ThreeAugment{Kind::kGrayscale, 0}},
                                    std::pair{"solarize 128", ThreeAugment{Kind::kSolarize, 0}},
                                    std::pair{"blur 1.05 px", ThreeAugment{Kind::kBlur, 1.05}}}) {
    costs.push_back(
        bench.measure(name, [drawn](Image& image, Image& scratch) { apply(drawn, image, scratch); }));
  }
  bench.add("3-Augment, mean of the three", mean(costs));
  bench.measure("blur 0.3 px", [](Image& image, Image& scratch) { gaussian_blur(image, 0.3, scratch); });
  bench.measure("blur 2.0 px", [](Image& image, Image& scratch) { gaussian_blur(image, 2.0, scratch); });
}

void color_jitter(Bench& bench) {
  using Kind = ColorJitter::Kind;
  std::array<ColorJitter::Step, 3> steps{
      {{Kind::kBrightness, 1.2}, {Kind::kContrast, 0.8}, {Kind::kSaturation, 1.25}}};
  std::array<int, 3> order{0, 1, 2};
  const std::array<const char*, 3> names{"brightness", "contrast", "saturation"};
  std::vector<Cost> costs;
  do {
    ColorJitter drawn;
    std::string name = "jitter:";
    for (int i = 0; i < 3; ++i) {
      drawn.steps[i] = steps[order[i]];
      name += fmt::format(" {}", names[order[i]]);
    }
    costs.push_back(bench.measure(name, [drawn](Image& image, Image&) { apply(drawn, image); }));
  } while (std::next_permutation(order.begin(), order.end()));
  bench.add("jitter, mean of the orders", mean(costs));
}

void rand_augment(Bench& bench) {
  constexpr std::array<const char*, kNumRandOps> kNames{
      "AutoContrast", "Equalize",   "Invert",    "Rotate", "Posterize", "Solarize",   "SolarizeAdd", "Color",
      "Contrast",     "Brightness", "Sharpness", "ShearX", "ShearY",    "TranslateX", "TranslateY"};
  constexpr double kMagnitude = 9;
  for (int i = 0; i < kNumRandOps; ++i) {
    const DrawnOp drawn = op_at(static_cast<RandOp>(i), kMagnitude, false);
    bench.measure(fmt::format("RandAugment {}", kNames[i]),
                  [&](Image& image, Image& scratch) { apply(drawn, Warp{}, image, scratch); });
  }
  const DrawnOp rotation = op_at(RandOp::kRotate, kMagnitude, false);
  bench.measure("RandAugment Rotate, bilinear", [&](Image& image, Image& scratch) {
    apply(rotation, Warp{.resampling = Resampling::kBilinear}, image, scratch);
  });
}

void erasing(Bench& bench, const Options& options) {
  const std::int64_t size = options.size;
  std::vector<float> pixels(options.channels * size * size);
  const ErasedBox box{{size / 8, size / 8, size * 2 / 5, size * 2 / 5}, 7};
  bench.measure("erasing 16 % with noise",
                [&](Image&, Image&) { erase(box, EraseMode::kPixel, options.channels, size, size, pixels); });
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Times every augmentation of an image on one thread"};
  app.add_option("--size", options.size, "Pixels of a side")
      ->capture_default_str()
      ->check(CLI::Range(1, 8192));
  app.add_option("--channels", options.channels, "1 or 3")
      ->capture_default_str()
      ->check(CLI::IsMember({1, 3}));
  app.add_option("--calls", options.calls, "Per operation")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  CLI11_PARSE(app, argc, argv);
  Bench bench(options);
  three_augment(bench);
  color_jitter(bench);
  rand_augment(bench);
  erasing(bench, options);
  fmt::print("{0} x {0} x {1}, {2} calls of each\n{3}", options.size, options.channels, options.calls,
             bench.report());
  return 0;
}
