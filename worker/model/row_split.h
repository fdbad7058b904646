// A residual branch on some rows, on a CPU, with fewer passes over memory than index_select and index_add
// take: the branch's gradient is added to the shortcut's in place, where these fill a tensor of zeros, add to
// that, and add the two. Differentiable once (backward(), not double backward).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace cosub::model {

/// Whether the functions below take it: float32, contiguous, on a CPU.
bool splits_rows(const at::Tensor& x);

/// x [N, ...] -> {x for the shortcut, x's rows for the branch [rows.size(), ...]}. rows: distinct. Only one
/// of the two may be used to change what lies in x's memory.
std::pair<at::Tensor, at::Tensor> split_rows(const at::Tensor& x, const std::vector<std::int64_t>& rows);

/// whole [N, ...] with scale * part [rows.size(), ...] added to its rows, or with scale * layer_scale [C] *
/// part, where the last dimension has C numbers. rows: distinct. All are as splits_rows wants them.
at::Tensor merge_rows(const at::Tensor& whole, const std::vector<std::int64_t>& rows, const at::Tensor& part,
                      double scale, const at::Tensor& layer_scale = {});

}  // namespace cosub::model
