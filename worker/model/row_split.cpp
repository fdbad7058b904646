#include "worker/model/row_split.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include "worker/model/row_kernel.h"

namespace cosub::model {
namespace {

using torch::autograd::variable_list;

std::int64_t width_of(const at::Tensor& x) {
  return x.size(0) == 0 ? 0 : x.numel() / x.size(0);
}

at::Tensor rows_taken(const at::Tensor& whole, const std::vector<std::int64_t>& rows, double scale) {
  std::vector<std::int64_t> sizes = whole.sizes().vec();
  sizes[0] = static_cast<std::int64_t>(rows.size());
  at::Tensor part = at::empty(sizes, whole.options());
  take_rows(whole.const_data_ptr<float>(), rows, width_of(whole), static_cast<float>(scale),
            part.mutable_data_ptr<float>());
  return part;
}

/// Nobody else has the numbers: neither this tensor nor another one over the same memory.
bool is_ours_alone(const at::Tensor& x) {
  return x.use_count() == 1 && x.storage().use_count() == 1 && x.is_contiguous();
}

struct SplitRows : public torch::autograd::Node {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    at::Tensor whole = std::move(gradients.at(0));
    const at::Tensor part = std::move(gradients.at(1));
    if (!part.defined()) return {whole};
    if (!whole.defined())
      whole = at::zeros(sizes, part.options());
    else if (!is_ours_alone(whole))
      whole = whole.clone(at::MemoryFormat::Contiguous);
    add_to_rows(part.contiguous().const_data_ptr<float>(), rows, width_of(whole),
                whole.mutable_data_ptr<float>());
    return {whole};
  }

  std::vector<std::int64_t> rows, sizes;
};

struct MergeRows : public torch::autograd::Node {
  variable_list apply(variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    at::Tensor whole = std::move(gradients.at(0));
    if (!whole.defined()) return {at::Tensor(), at::Tensor()};
    at::Tensor part;
    if (task_should_compute_output(1)) part = rows_taken(whole.contiguous(), rows, scale);
    return {std::move(whole), std::move(part)};
  }

  std::vector<std::int64_t> rows;
  double scale = 1;
};

template <class NodeKind>
std::shared_ptr<NodeKind> make_node(torch::autograd::edge_list next) {
  const auto node = std::shared_ptr<NodeKind>(new NodeKind(), torch::autograd::deleteNode);
  node->set_next_edges(std::move(next));
  return node;
}

}  // namespace

bool splits_rows(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous();
}

std::pair<at::Tensor, at::Tensor> split_rows(const at::Tensor& x, const std::vector<std::int64_t>& rows) {
  const at::Tensor taken = rows_taken(x, rows, 1.0);
  if (!at::GradMode::is_enabled() || !x.requires_grad()) return {x, taken};
  const auto node = make_node<SplitRows>(torch::autograd::collect_next_edges(x));
  node->rows = rows;
  node->sizes = x.sizes().vec();
  std::vector<at::Tensor> outputs = {x.detach(), taken};
  torch::autograd::set_history(outputs, node);
  return {outputs[0], outputs[1]};
}

at::Tensor merge_rows(const at::Tensor& whole, const std::vector<std::int64_t>& rows, const at::Tensor& part,
                      double scale) {
  at::Tensor sum = at::empty_like(whole);
  sum_with_rows(whole.const_data_ptr<float>(), whole.size(0), part.const_data_ptr<float>(), rows,
                width_of(whole), static_cast<float>(scale), sum.mutable_data_ptr<float>());
  if (!at::GradMode::is_enabled() || !(whole.requires_grad() || part.requires_grad())) return sum;
  const auto node = make_node<MergeRows>(torch::autograd::collect_next_edges(whole, part));
  node->rows = rows;
  node->scale = scale;
  torch::autograd::set_history(sum, node);
  return sum;
}

}  // namespace cosub::model
