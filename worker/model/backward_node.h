// What our own nodes of the backward pass share.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>

#include <memory>
#include <utility>

namespace cosub::model {

template <class NodeKind>
std::shared_ptr<NodeKind> make_node(torch::autograd::edge_list next) {
  const auto node = std::shared_ptr<NodeKind>(new NodeKind(), torch::autograd::deleteNode);
  node->set_next_edges(std::move(next));
  return node;
}

/// Float32, contiguous, on a CPU: what our kernels take.
inline bool is_plain(const at::Tensor& x) {
  return x.defined() && x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous();
}

/// Nobody else has the numbers: neither this tensor nor another one over the same memory.
inline bool is_ours_alone(const at::Tensor& x) {
  if (x.use_count() != 1 || !x.is_contiguous()) return false;
  if (!x.is_view()) return x.storage().use_count() == 1;
  return x._base().use_count() == 1 && x.storage().use_count() == 2;  // a view holds what it is a view of
}

/// x, or where others have its numbers a contiguous copy: a gradient that may be overwritten.
inline at::Tensor made_ours(at::Tensor&& x) {
  return is_ours_alone(x) ? std::move(x) : x.clone(at::MemoryFormat::Contiguous);
}

}  // namespace cosub::model
