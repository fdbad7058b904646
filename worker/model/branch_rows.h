// row_split.h's two ends of a residual branch on some rows, by the kernels of a GPU: LayerNorm with the
// taking of the rows, LayerScale with the adding back. Rows are a tensor on the device, or undefined: all.
// Differentiable once.
#pragma once

#include <ATen/ATen.h>

#include <utility>

#include "worker/model/norm.h"

namespace cosub::model {

/// Whether norm_rows takes it: float32 [N, ..., C] with the norm's C, contiguous, on the device of loaded
/// kernels, and a norm in float32 with bias.
bool norms_rows(const at::Tensor& x, const Norm& norm);

/// x [N, ..., C] -> {x for the shortcut, norm(x[rows]) for the branch}: the latter in what matrix products
/// take, which is bfloat16 under autocast to it. rows: distinct, [K] int64. The first lies in x's memory; the
/// backward pass needs what is there where x is not ours alone (backward_node.h) afterwards.
std::pair<at::Tensor, at::Tensor> norm_rows(const at::Tensor& x, const at::Tensor& rows, const Norm& norm);

/// Whether add_branch takes these: whole float32, part float32 or bfloat16, [..., C] alike, layer_scale
/// float32 or undefined, all contiguous and on the device of loaded kernels.
bool adds_branch(const at::Tensor& whole, const at::Tensor& part, const at::Tensor& layer_scale);

/// whole [N, ..., C] with scale * layer_scale [C] * part [K, ..., C] added to its rows; layer_scale may be
/// undefined. in_place: in whole's memory, which nobody reads any more.
at::Tensor add_branch(const at::Tensor& whole, const at::Tensor& rows, const at::Tensor& part, double scale,
                      const at::Tensor& layer_scale, bool in_place = false);

}  // namespace cosub::model
