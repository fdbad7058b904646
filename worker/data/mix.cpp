#include "worker/data/mix.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "common/random.h"

namespace cosub::data {
namespace {

/// Calls `combine(a, b)` for each pair of mixed rows' elements [begin, end) of the flattened row: both
/// directions at once, since the partner's partner is the row itself. The middle row of an odd batch is its
/// own partner.
template <typename Combine>
void for_pairs(float* rows, std::int64_t num_rows, std::int64_t row_size, std::int64_t begin,
               std::int64_t end, Combine combine) {
  for (std::int64_t i = 0; i <= num_rows - 1 - i; ++i) {
    float* a = rows + i * row_size;
    float* b = rows + (num_rows - 1 - i) * row_size;
    for (std::int64_t k = begin; k < end; ++k) combine(a[k], b[k]);
  }
}

void mix_pairs(float* rows, std::int64_t num_rows, std::int64_t row_size, double lambda) {
  const float own = static_cast<float>(lambda), other = static_cast<float>(1.0 - lambda);
  for_pairs(rows, num_rows, row_size, 0, row_size, [own, other](float& a, float& b) {
    const float mixed_a = a * own + b * other;
    b = b * own + a * other;
    a = mixed_a;
  });
}

}  // namespace

Mix draw_mix(const config::MixConfig& mix, std::int64_t image_size, std::uint64_t stream, std::int64_t step,
             std::int64_t microbatch) {
  if (mix.mixup <= 0 && mix.cutmix <= 0) return {};
  KeyedRandom random(stream, Purpose::kMix, step, microbatch);
  if (!(random.uniform() < mix.prob)) return {};
  bool use_cutmix = mix.cutmix > 0;
  if (mix.mixup > 0 && mix.cutmix > 0) use_cutmix = random.uniform() < mix.switch_prob;
  const double alpha = use_cutmix ? mix.cutmix : mix.mixup;
  const double lambda = random.beta(alpha, alpha);
  if (!use_cutmix) return {.kind = Mix::Kind::kMixup, .lambda = lambda};
  const auto center_y = static_cast<std::int64_t>(random.uniform_int(image_size));
  const auto center_x = static_cast<std::int64_t>(random.uniform_int(image_size));
  return cutmix_box(lambda, image_size, center_y, center_x);
}

Mix cutmix_box(double lambda, std::int64_t image_size, std::int64_t center_y, std::int64_t center_x) {
  const auto cut = static_cast<std::int64_t>(static_cast<double>(image_size) * std::sqrt(1.0 - lambda));
  const auto clip = [&](std::int64_t value) { return std::clamp<std::int64_t>(value, 0, image_size); };
  Mix mix{.kind = Mix::Kind::kCutmix};
  mix.top = clip(center_y - cut / 2);
  mix.bottom = clip(center_y + (cut + 1) / 2);
  mix.left = clip(center_x - cut / 2);
  mix.right = clip(center_x + (cut + 1) / 2);
  const auto area = static_cast<double>((mix.bottom - mix.top) * (mix.right - mix.left));
  mix.lambda = 1.0 - area / static_cast<double>(image_size * image_size);
  return mix;
}

void mix_images(const Mix& mix, at::Tensor& images) {
  const std::int64_t num_rows = images.size(0), channels = images.size(1), height = images.size(2);
  const std::int64_t width = images.size(3), row_size = channels * height * width;
  float* rows = images.mutable_data_ptr<float>();
  if (mix.kind == Mix::Kind::kMixup) mix_pairs(rows, num_rows, row_size, mix.lambda);
  if (mix.kind != Mix::Kind::kCutmix) return;
  for (std::int64_t line = 0; line < channels * height; ++line) {
    const std::int64_t y = line % height;
    if (y < mix.top || y >= mix.bottom) continue;
    for_pairs(rows, num_rows, row_size, line * width + mix.left, line * width + mix.right,
              [](float& a, float& b) { std::swap(a, b); });
  }
}

at::Tensor mix_targets(const Mix& mix, const std::vector<std::int64_t>& labels, std::int64_t classes,
                       double smoothing, config::Targets targets) {
  const auto num_rows = static_cast<std::int64_t>(labels.size());
  const bool binarize = targets == config::Targets::kBinarize;
  // timm smooths before mixing; for binarised targets smoothing comes last, or it would lift every class
  // above 0.
  const auto off = static_cast<float>(smoothing / static_cast<double>(classes));
  const auto on = static_cast<float>(1.0 - smoothing + smoothing / static_cast<double>(classes));
  at::Tensor result = at::empty({num_rows, classes}, at::kFloat);
  std::span<float> values(result.mutable_data_ptr<float>(), num_rows * classes);
  std::ranges::fill(values, binarize ? 0.0f : off);
  for (std::int64_t i = 0; i < num_rows; ++i) values[i * classes + labels[i]] = binarize ? 1.0f : on;
  if (mix.kind != Mix::Kind::kNone) mix_pairs(values.data(), num_rows, classes, mix.lambda);
  if (binarize) {
    for (float& value : values) value = value > 0 ? on : off;
  }
  return result;
}

}  // namespace cosub::data
