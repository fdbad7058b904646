// Mixup (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899) within a microbatch, as
// timm.data.Mixup in 'batch' mode computes them: image i is mixed with image B-1-i, one lambda for all,
// CutMix's lambda corrected to the area that was really pasted. Pure functions of their arguments.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "common/config/pipeline.h"

namespace cosub::data {

struct Mix {
  enum class Kind { kNone, kMixup, kCutmix };
  Kind kind = Kind::kNone;
  double lambda = 1.0;                                    // share of the image itself
  std::int64_t top = 0, bottom = 0, left = 0, right = 0;  // CutMix: the pasted box, half open
};

/// Keyed by (stream, step, microbatch).
Mix draw_mix(const config::MixConfig& mix, std::int64_t image_size, std::uint64_t stream, std::int64_t step,
             std::int64_t microbatch);

/// The box timm's rand_bbox gives for `lambda` around a centre, clipped, and lambda corrected by its area.
Mix cutmix_box(double lambda, std::int64_t image_size, std::int64_t center_y, std::int64_t center_x);

/// images: [B, C, S, S] float32 contiguous, changed in place.
void mix_images(const Mix& mix, at::Tensor& images);

/// -> [B, classes] float32: one-hot labels mixed, then (targets: binarize) everything above 0 set to 1, then
/// smoothed as y * (1 - smoothing) + smoothing / classes.
at::Tensor mix_targets(const Mix& mix, const std::vector<std::int64_t>& labels, std::int64_t classes,
                       double smoothing, config::Targets targets);

}  // namespace cosub::data
