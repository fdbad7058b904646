// The cosub loss (arXiv 2212.04884, section 3; published code github.com/facebookresearch/deit, engine.py):
//   loss = (1-lambda)/2 [L(z1,y) + L(z2,y)] + lambda/2 [L(z1, stop(p(z2))) + L(z2, stop(p(z1)))]
// with L and p by kind: bce -> binary cross-entropy with logits and sigmoid; ce -> soft-target cross-entropy
// and softmax. Pure functions of tensors; differentiable in the logits.
#pragma once

#include <ATen/ATen.h>

#include "common/config/pipeline.h"

namespace cosub::train {

/// L(z, y): z, y [B, classes] -> scalar. bce: mean over rows and classes, or summed over classes (kSum); ce:
/// mean over rows of -sum y log softmax(z).
at::Tensor label_loss(const at::Tensor& logits, const at::Tensor& targets,
                      const config::CosubConfig& options);

/// logits: [2B, classes], rows [0,B) submodel 1, [B,2B) submodel 2; targets: [B, classes].
/// With options.enabled false: logits [B, classes] and plain L(z, y).
at::Tensor cosub_loss(const at::Tensor& logits, const at::Tensor& targets, const config::CosubConfig& options,
                      double lambda);
/// lambda: [] of the targets' dtype, on their device; undefined: 0.
at::Tensor cosub_loss(const at::Tensor& logits, const at::Tensor& targets, const config::CosubConfig& options,
                      const at::Tensor& lambda);

}  // namespace cosub::train
