#include "worker/tools/gemm_peak.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <vector>

namespace cosub::tools {
namespace {

constexpr std::int64_t kSide = 1536;

double product_flops(at::ScalarType dtype) {
  constexpr int kRepeats = 6;
  const at::Tensor a = at::ones({kSide, kSide}, dtype), b = at::ones({kSide, kSide}, dtype);
  at::Tensor c = at::mm(a, b);
  double best = 0;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    at::mm_out(c, a, b);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, 2.0 * static_cast<double>(kSide * kSide * kSide) / seconds.count());
  }
  return best;
}

struct KnownGpu {
  std::string_view name;  // words of the driver's name; the longer of two that fit comes first
  double bf16, tf32, fp32;
};

// TFLOP/s, dense, from NVIDIA's data sheets. bf16 sums in float32.
constexpr std::array<KnownGpu, 16> kKnownGpus = {{{"GB200", 2500, 1250, 80},
                                                  {"B200", 2250, 1125, 75},
                                                  {"H200", 989.4, 494.7, 66.9},
                                                  {"GH200", 989.4, 494.7, 66.9},
                                                  {"H100 PCIe", 756.5, 378, 51.2},
                                                  {"H100 NVL", 835.5, 417.5, 60},
                                                  {"H100", 989.4, 494.7, 66.9},
                                                  {"A100", 312, 156, 19.5},
                                                  {"A10", 125, 62.5, 31.2},
                                                  {"L40S", 362, 183, 91.6},
                                                  {"L40", 181, 90.5, 90.5},
                                                  {"L4", 121, 60, 30.3},
                                                  {"RTX 4090", 165.2, 82.6, 82.6},
                                                  {"RTX 3090", 71, 35.6, 35.6},
                                                  {"V100S", 0, 0, 16.4},
                                                  {"V100", 0, 0, 15.7}}};

/// Whether `words` stand in the name with nothing of another word beside them: L4 is not in L40, nor A100 in
/// A1000.
bool has_words(std::string_view name, std::string_view words) {
  const auto is_inside = [&](std::size_t at) {
    return at < name.size() && std::isalnum(static_cast<unsigned char>(name[at])) != 0;
  };
  for (std::size_t at = name.find(words); at != std::string_view::npos; at = name.find(words, at + 1))
    if ((at == 0 || !is_inside(at - 1)) && !is_inside(at + words.size())) return true;
  return false;
}

Peak measured_cpu_peak(config::Precision precision) {
  const at::NoGradGuard no_grad;
  const double fp32 = product_flops(at::kFloat);
  Peak peak{fp32, fmt::format("measured here: a float32 product of side {}", kSide)};
  if (precision != config::Precision::kBf16) return peak;
  const double bf16 = product_flops(at::kBFloat16);
  if (bf16 > fp32) return {bf16, fmt::format("measured here: a bfloat16 product of side {}", kSide)};
  peak.origin += ", faster here than one of bfloat16";
  return peak;
}

}  // namespace

Peak known_gpu_peak(std::string_view name, config::Precision precision) {
  for (const KnownGpu& gpu : kKnownGpus) {
    if (!has_words(name, gpu.name) || has_words(name, "Laptop")) continue;
    const double tera = precision == config::Precision::kBf16   ? gpu.bf16
                        : precision == config::Precision::kTf32 ? gpu.tf32
                                                                : gpu.fp32;
    return {tera * 1e12, fmt::format("{}, dense, by its data sheet", name)};
  }
  return {0,
          name.empty() ? "no peak: the GPU's name is not known" : fmt::format("no peak known for {}", name)};
}

std::string gpu_name(int index) {
  std::error_code ignored_absence;
  std::vector<std::filesystem::path> gpus;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", ignored_absence)) {
    gpus.push_back(entry.path());
  }
  if (index < 0 || static_cast<std::size_t>(index) >= gpus.size()) return "";
  std::sort(gpus.begin(), gpus.end());
  std::ifstream information(gpus[static_cast<std::size_t>(index)] / "information");
  constexpr std::string_view kKey = "Model:";
  for (std::string line; std::getline(information, line);) {
    if (!line.starts_with(kKey)) continue;
    const std::size_t begin = line.find_first_not_of(" \t", kKey.size());
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

Peak peak_of(at::Device device, config::Precision precision) {
  return device.is_cpu() ? measured_cpu_peak(precision) : known_gpu_peak(gpu_name(device.index()), precision);
}

}  // namespace cosub::tools
