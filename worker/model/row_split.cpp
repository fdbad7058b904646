#include "worker/model/row_split.h"

#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <optional>

#include "worker/model/backward_node.h"
#include "worker/model/recompute.h"
#include "worker/model/row_kernel.h"

namespace cosub::model {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

/// With as many channels as a factor for each channel has, or at will.
RowShape shape_of(const at::Tensor& x, std::int64_t channels = 0) {
  constexpr std::int64_t kLongEnough = 256;
  const std::int64_t width = x.size(0) == 0 ? 0 : x.numel() / x.size(0);
  if (width == 0) return {0, 1};
  if (channels == 0) {
    channels = 1;
    for (std::int64_t dim = x.dim() - 1; dim > 0 && channels < kLongEnough; --dim) channels *= x.size(dim);
  }
  return {width / channels, channels};
}

std::vector<std::int64_t> sizes_of_part(const at::Tensor& whole, const std::vector<std::int64_t>& rows) {
  std::vector<std::int64_t> sizes = whole.sizes().vec();
  sizes[0] = static_cast<std::int64_t>(rows.size());
  return sizes;
}

struct SplitRows : public torch::autograd::Node {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    at::Tensor whole = std::move(gradients.at(0));
    const at::Tensor part = std::move(gradients.at(1));
    if (!part.defined()) return {whole};
    whole = whole.defined() ? made_ours(std::move(whole)) : at::zeros(sizes, part.options());
    add_to_rows(part.contiguous().const_data_ptr<float>(), rows, shape_of(whole),
                whole.mutable_data_ptr<float>());
    return {whole};
  }

  std::vector<std::int64_t> rows, sizes;
};

struct MergeRows : public torch::autograd::Node {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    at::Tensor whole = std::move(gradients.at(0));
    if (!whole.defined()) return variable_list(3);
    at::Tensor d_part, d_layer_scale;
    if (task_should_compute_output(1) || task_should_compute_output(2)) {
      const at::Tensor dense = whole.contiguous(), factor_now = factor.unpack();
      const bool wants_scale = part && task_should_compute_output(2);
      const at::Tensor part_now = wants_scale ? part->unpack() : at::Tensor();
      d_part = at::empty(sizes_of_part(whole, rows), whole.options());
      if (wants_scale) d_layer_scale = at::empty_like(factor_now);
      sum_with_rows_backward(
          dense.const_data_ptr<float>(), wants_scale ? part_now.const_data_ptr<float>() : nullptr, rows,
          shape_of(whole, factor_now.numel()), factor_now.const_data_ptr<float>(),
          d_part.mutable_data_ptr<float>(), wants_scale ? d_layer_scale.mutable_data_ptr<float>() : nullptr);
      if (wants_scale) d_layer_scale.mul_(scale);
    }
    return {std::move(whole), std::move(d_part), std::move(d_layer_scale)};
  }
  void release_variables() override {
    part.reset();
    factor.reset_data();
  }

  std::vector<std::int64_t> rows;
  std::optional<SavedOutput> part;  // only for the gradient of the layer's scale
  SavedVariable factor;
  double scale = 1;
};

}  // namespace

bool splits_rows(const at::Tensor& x) {
  return is_plain(x);
}

std::pair<at::Tensor, at::Tensor> split_rows(const at::Tensor& x, const std::vector<std::int64_t>& rows) {
  at::Tensor taken = at::empty(sizes_of_part(x, rows), x.options());
  take_rows(x.const_data_ptr<float>(), rows, shape_of(x), taken.mutable_data_ptr<float>());
  if (!at::GradMode::is_enabled() || !x.requires_grad()) return {x, taken};
  const auto node = make_node<SplitRows>(torch::autograd::collect_next_edges(x));
  node->rows = rows;
  node->sizes = x.sizes().vec();
  std::vector<at::Tensor> outputs = {x.detach(), taken};
  torch::autograd::set_history(outputs, node);
  return {outputs[0], outputs[1]};
}

at::Tensor merge_rows(const at::Tensor& whole, const std::vector<std::int64_t>& rows, const at::Tensor& part,
                      double scale, const at::Tensor& layer_scale) {
  at::Tensor sum = at::empty_like(whole), factor;
  {
    const at::NoGradGuard no_grad;
    factor = layer_scale.defined() ? layer_scale * scale : at::full({shape_of(whole).channels}, scale);
    sum_with_rows(whole.const_data_ptr<float>(), whole.size(0), part.const_data_ptr<float>(), rows,
                  shape_of(whole, factor.numel()), factor.const_data_ptr<float>(),
                  sum.mutable_data_ptr<float>());
  }
  const bool scale_learns = layer_scale.defined() && layer_scale.requires_grad();
  if (!at::GradMode::is_enabled() || !(whole.requires_grad() || part.requires_grad() || scale_learns))
    return sum;
  const auto node = make_node<MergeRows>(torch::autograd::collect_next_edges(whole, part, layer_scale));
  node->rows = rows;
  node->scale = scale;
  node->factor = SavedVariable(factor, /*is_output=*/false);
  if (scale_learns) node->part.emplace(part);
  torch::autograd::set_history(sum, node);
  return sum;
}

}  // namespace cosub::model
