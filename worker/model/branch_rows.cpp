#include "worker/model/branch_rows.h"

#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include "worker/model/backward_node.h"
#include "worker/model/kernel_calls.h"

namespace cosub::model {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

/// x: [N, ..., C], the whole or, with the same rows, the part.
kernels::RowPart part_of(const at::Tensor& x, const at::Tensor& rows) {
  kernels::RowPart part;
  part.channels = x.size(-1);
  for (std::int64_t dim = 1; dim < x.dim() - 1; ++dim) part.positions *= x.size(dim);
  part.rows = rows.defined() ? rows.const_data_ptr<std::int64_t>() : nullptr;
  part.num_rows = rows.defined() ? rows.numel() : x.size(0);
  return part;
}

std::vector<std::int64_t> sizes_of_part(const at::Tensor& whole, const at::Tensor& rows) {
  std::vector<std::int64_t> sizes = whole.sizes().vec();
  if (rows.defined()) sizes[0] = rows.numel();
  return sizes;
}

std::int64_t lines_of(const kernels::RowPart& part) {
  return part.num_rows * part.positions;
}

/// Whether the normalised rows are kept for the backward pass rather than x, which may be overwritten then:
/// in bfloat16 they are half of it at most and what writing them costs reading them saves; in float32 they
/// pay where many rows are dropped.
bool keeps_normed(const at::Tensor& x, const at::Tensor& rows, const at::Tensor& y) {
  return y.scalar_type() == at::kBFloat16 || (rows.defined() && 4 * rows.numel() < 3 * x.size(0));
}

struct NormRows : public torch::autograd::Node {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    at::Tensor d_x = std::move(gradients.at(0));
    if (!gradients.at(1).defined()) return {std::move(d_x), {}, {}};
    const at::Tensor d_y = gradients[1].contiguous(), weight_now = weight.unpack(),
                     from = x_or_normed.unpack();
    const bool adds = d_x.defined();
    if (adds) d_x = made_ours(std::move(d_x));
    if (!adds) d_x = rows.defined() ? at::zeros(sizes, mean.options()) : at::empty(sizes, mean.options());
    kernels::LayerNormBackward a;
    a.part = part_of(d_x, rows);
    at::Tensor d_weight, d_bias, scratch;
    if (task_should_compute_output(1) || task_should_compute_output(2)) {
      d_weight = at::empty_like(weight_now);
      d_bias = at::empty_like(weight_now);
      scratch = floats_like(from, {kernels::column_scratch(lines_of(a.part), a.part.channels, 2)});
    }
    if (has_normed) {
      a.normed = from.const_data_ptr();
    } else {
      a.x = from.const_data_ptr<float>();
    }
    a.weight = weight_now.const_data_ptr<float>();
    a.mean = mean.const_data_ptr<float>();
    a.rstd = rstd.const_data_ptr<float>();
    a.d_y = d_y.const_data_ptr();
    a.y_type = kernel_dtype(d_y);
    a.d_x = d_x.mutable_data_ptr<float>();
    a.adds = adds;
    a.d_weight = float_address(d_weight);
    a.d_bias = float_address(d_bias);
    a.scratch = float_address(scratch);
    kernels_for(from)->layer_norm_backward(a, StreamOf(from));
    return {std::move(d_x), std::move(d_weight), std::move(d_bias)};
  }
  void release_variables() override {
    x_or_normed.reset_data();
    weight.reset_data();
    mean.reset();
    rstd.reset();
  }

  at::Tensor rows, mean, rstd;
  std::vector<std::int64_t> sizes;  // of x
  bool has_normed = false;
  SavedVariable x_or_normed, weight;
};

struct AddBranch : public torch::autograd::Node {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    at::Tensor whole = std::move(gradients.at(0));
    if (!whole.defined()) return variable_list(3);
    at::Tensor d_part, d_gamma;
    if (task_should_compute_output(1) || task_should_compute_output(2)) {
      const at::Tensor d_sum = whole.contiguous(), part_now = part.unpack(), gamma_now = gamma.unpack();
      const bool wants_gamma = part_now.defined() && task_should_compute_output(2);
      kernels::AddRowsBackward a;
      a.part = part_of(d_sum, rows);
      d_part = at::empty(sizes_of_part(d_sum, rows), d_sum.options().dtype(part_dtype));
      at::Tensor scratch;
      if (wants_gamma) {
        d_gamma = at::empty_like(gamma_now);
        scratch = floats_like(d_sum, {kernels::column_scratch(lines_of(a.part), a.part.channels, 1)});
      }
      a.d_sum = d_sum.const_data_ptr<float>();
      a.gamma = const_float_address(gamma_now);
      a.scale = static_cast<float>(scale);
      a.addend_type = kernel_dtype(d_part);
      a.addend = wants_gamma ? part_now.const_data_ptr() : nullptr;
      a.d_addend = d_part.mutable_data_ptr();
      a.d_gamma = float_address(d_gamma);
      a.scratch = float_address(scratch);
      kernels_for(d_sum)->add_rows_backward(a, StreamOf(d_sum));
    }
    return {std::move(whole), std::move(d_part), std::move(d_gamma)};
  }
  void release_variables() override {
    part.reset_data();
    gamma.reset_data();
  }

  at::Tensor rows;
  SavedVariable part, gamma;  // part: only for the gradient of gamma
  at::ScalarType part_dtype = at::kFloat;
  double scale = 1;
};

}  // namespace

bool norms_rows(const at::Tensor& x, const Norm& norm) {
  return is_plain_for_kernels(x) && x.dim() >= 2 && x.numel() > 0 && norm.defined() && norm.bias.defined() &&
         is_plain_for_kernels(norm.weight) && is_plain_for_kernels(norm.bias) &&
         norm.weight.numel() == x.size(-1) && kernels::norm_takes(x.size(-1)) && product_dtype(x).has_value();
}

std::pair<at::Tensor, at::Tensor> norm_rows(const at::Tensor& x, const at::Tensor& rows, const Norm& norm) {
  const at::Tensor y = at::empty(sizes_of_part(x, rows), x.options().dtype(*product_dtype(x)));
  kernels::LayerNorm a;
  a.part = part_of(x, rows);
  const at::Tensor mean = floats_like(x, {lines_of(a.part)}), rstd = at::empty_like(mean);
  a.x = x.const_data_ptr<float>();
  a.weight = norm.weight.const_data_ptr<float>();
  a.bias = norm.bias.const_data_ptr<float>();
  a.eps = static_cast<float>(norm.eps);
  a.y = y.mutable_data_ptr();
  a.y_type = kernel_dtype(y);
  a.mean = float_address(mean);
  a.rstd = float_address(rstd);
  const bool learns = norm.weight.requires_grad() || norm.bias.requires_grad();
  const bool differentiates = at::GradMode::is_enabled() && (x.requires_grad() || learns);
  at::Tensor normed;
  if (differentiates && keeps_normed(x, rows, y)) normed = at::empty_like(y);
  a.normed = normed.defined() ? normed.mutable_data_ptr() : nullptr;
  kernels_for(x)->layer_norm(a, StreamOf(x));
  if (!differentiates) return {x, y};
  const auto node = make_node<NormRows>(torch::autograd::collect_next_edges(x, norm.weight, norm.bias));
  node->rows = rows;
  node->mean = mean;
  node->rstd = rstd;
  node->sizes = x.sizes().vec();
  node->has_normed = normed.defined();
  node->x_or_normed = SavedVariable(normed.defined() ? normed : x, /*is_output=*/false);
  node->weight = SavedVariable(norm.weight, /*is_output=*/false);
  std::vector<at::Tensor> outputs = {x.variable_data(), y};  // detach() would hold x itself
  torch::autograd::set_history(outputs, node);
  return {outputs[0], outputs[1]};
}

bool adds_branch(const at::Tensor& whole, const at::Tensor& part, const at::Tensor& layer_scale) {
  return is_plain_for_kernels(whole) && is_result_for_kernels(part) && whole.dim() == part.dim() &&
         whole.dim() >= 2 && whole.numel() > 0 && whole.sizes().slice(1) == part.sizes().slice(1) &&
         (!layer_scale.defined() || is_plain_for_kernels(layer_scale));
}

at::Tensor add_branch(const at::Tensor& whole, const at::Tensor& rows, const at::Tensor& part, double scale,
                      const at::Tensor& layer_scale, bool in_place) {
  const at::Tensor sum = in_place ? whole.variable_data() : at::empty_like(whole);
  kernels::AddRows a;
  a.part = part_of(whole, rows);
  a.whole_rows = whole.size(0);
  a.whole = whole.const_data_ptr<float>();
  a.gamma = const_float_address(layer_scale);
  a.scale = static_cast<float>(scale);
  a.addend = part.const_data_ptr();
  a.addend_type = kernel_dtype(part);
  a.sum = float_address(sum);
  kernels_for(whole)->add_rows(a, StreamOf(whole));
  const bool scale_learns = layer_scale.defined() && layer_scale.requires_grad();
  if (!at::GradMode::is_enabled() || !(whole.requires_grad() || part.requires_grad() || scale_learns))
    return sum;
  const auto node = make_node<AddBranch>(torch::autograd::collect_next_edges(whole, part, layer_scale));
  node->rows = rows;
  node->scale = scale;
  node->part_dtype = part.scalar_type();
  node->gamma = SavedVariable(layer_scale, /*is_output=*/false);
  if (scale_learns) node->part = SavedVariable(part, /*is_output=*/false);
  torch::autograd::set_history(sum, node);
  return sum;
}

}  // namespace cosub::model
