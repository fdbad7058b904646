#include "worker/model/self_attention.h"

#include <ATen/autocast_mode.h>
#include <ATen/record_function.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "worker/model/attention_kernel.h"
#include "worker/model/cpu_products.h"
#include "worker/model/fused_attention.h"
#include "worker/model/parallel_pieces.h"

namespace cosub::model {
namespace {

constexpr std::int64_t kMostWeights = 80'000;  // of a piece: 320 KB of floats, twice in the backward pass

/// How one call is cut. `Piece`: heads [head, head + heads) of a row.
struct Cut {
  explicit Cut(const at::Tensor& qkv)
      : rows(qkv.size(0)), tokens(qkv.size(1)), heads(qkv.size(3)), width(qkv.size(4)) {
    const std::int64_t of_head = std::max<std::int64_t>(tokens * tokens, 1);
    piece_heads = std::clamp<std::int64_t>(kMostWeights / of_head, 1, std::max<std::int64_t>(heads, 1));
    pieces_of_row = (heads + piece_heads - 1) / piece_heads;
    piece_queries = std::clamp<std::int64_t>(kMostWeights / std::max<std::int64_t>(tokens, 1), 16,
                                             std::max<std::int64_t>(tokens, 16));
    scale = 1.0 / std::sqrt(static_cast<double>(width));
  }

  std::int64_t num_pieces() const { return rows * pieces_of_row; }

  std::int64_t rows, tokens, heads, width;
  std::int64_t piece_heads, pieces_of_row, piece_queries;
  double scale;
};

struct Piece {
  Piece(const Cut& cut_, std::int64_t index)
      : cut(cut_),
        row(index / cut_.pieces_of_row),
        head(index % cut_.pieces_of_row * cut_.piece_heads),
        heads(std::min(cut_.piece_heads, cut_.heads - head)) {}

  /// Part 0, 1, 2 of q, k, v as [heads, tokens, width], in place.
  at::Tensor part(const at::Tensor& qkv, std::int64_t which) const {
    const std::int64_t dim = cut.heads * cut.width;
    return qkv.as_strided({heads, cut.tokens, cut.width}, {cut.width, 3 * dim, 1},
                          qkv.storage_offset() + row * cut.tokens * 3 * dim + which * dim + head * cut.width);
  }
  /// Its part of [rows, tokens, heads * width] as [heads, tokens, width], in place.
  at::Tensor part(const at::Tensor& x) const {
    const std::int64_t dim = cut.heads * cut.width;
    return x.as_strided({heads, cut.tokens, cut.width}, {cut.width, dim, 1},
                        x.storage_offset() + row * cut.tokens * dim + head * cut.width);
  }

  const Cut& cut;
  std::int64_t row, head, heads;
};

/// work(first query, number of queries)
template <typename Work>
void for_each_block(const Cut& cut, const Work& work) {
  for (std::int64_t begin = 0; begin < cut.tokens; begin += cut.piece_queries)
    work(begin, std::min(cut.piece_queries, cut.tokens - begin));
}

at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k, double scale) {
  at::Tensor weights = at::empty({q.size(0), q.size(1), k.size(1)}, q.options());
  at::baddbmm_out(weights, weights, q, k.transpose(1, 2), 0, scale);
  at::_softmax_out(weights, weights, -1, false);
  return weights;
}

void attend(const Piece& piece, const at::Tensor& qkv, const at::Tensor& out) {
  const at::Tensor q = piece.part(qkv, 0), k = piece.part(qkv, 1), v = piece.part(qkv, 2);
  const at::Tensor attended = piece.part(out);
  for_each_block(piece.cut, [&](std::int64_t begin, std::int64_t size) {
    const at::Tensor weights = attention_weights(q.narrow(1, begin, size), k, piece.cut.scale);
    attended.narrow(1, begin, size).copy_(at::bmm(weights, v));
  });
}

void attend_backward(const Piece& piece, const at::Tensor& qkv, const at::Tensor& d_out,
                     const at::Tensor& d_qkv) {
  const at::Tensor q = piece.part(qkv, 0), k = piece.part(qkv, 1), v = piece.part(qkv, 2);
  const at::Tensor d_attended = piece.part(d_out), d_q = piece.part(d_qkv, 0);
  const double scale = piece.cut.scale;
  at::Tensor d_k = at::empty(k.sizes(), k.options()), d_v = at::empty_like(d_k);
  for_each_block(piece.cut, [&](std::int64_t begin, std::int64_t size) {
    const at::Tensor q_here = q.narrow(1, begin, size), d_here = d_attended.narrow(1, begin, size);
    const at::Tensor weights = attention_weights(q_here, k, scale);
    const int beta = begin > 0 ? 1 : 0;  // of the blocks' sums
    at::baddbmm_out(d_v, d_v, weights.transpose(1, 2), d_here, beta);
    at::Tensor d_weights = at::bmm(d_here, v.transpose(1, 2));
    at::_softmax_backward_data_out(d_weights, d_weights, weights, -1, weights.scalar_type());
    at::Tensor d_q_here = at::empty(q_here.sizes(), q.options());
    at::baddbmm_out(d_q_here, d_q_here, d_weights, k, 0, scale);
    d_q.narrow(1, begin, size).copy_(d_q_here);
    at::baddbmm_out(d_k, d_k, d_weights.transpose(1, 2), q_here, beta, scale);
  });
  piece.part(d_qkv, 1).copy_(d_k);
  piece.part(d_qkv, 2).copy_(d_v);
}

/// work(piece), below autograd and autocast, over all threads.
template <typename Work>
void for_each_piece(const Cut& cut, const Work& work) {
  const bool inference = c10::InferenceMode::is_enabled();  // of this thread; the others must be told
  in_parallel(cut.num_pieces(), [&](std::int64_t i) {
    std::optional<c10::InferenceMode> as_here;
    if (inference) as_here.emplace();
    const at::AutoDispatchBelowAutograd below_autograd;
    const at::DisableRecordFunctionGuard as_one_operator;  // of which cost.cpp and the profiler know
    const c10::impl::ExcludeDispatchKeyGuard below_autocast(c10::autocast_dispatch_keyset);
    work(Piece(cut, i));
  });
}

const AttentionKernel* kernel_for(const at::Tensor& qkv) {
  return qkv.scalar_type() == at::kFloat ? attention_kernel_for(qkv.size(4)) : nullptr;
}

/// work(floats before the head's q, k and v in qkv; floats before its output; scratch), for each row and
/// head.
template <typename Work>
void for_each_head(const Cut& cut, const HeadShape& shape, const AttentionKernel& kernel, const Work& work) {
  in_parallel(cut.rows * cut.heads, [&](std::int64_t i) {
    const auto scratch =
        std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(kernel.scratch(shape)));
    const std::int64_t row = i / cut.heads, head = i % cut.heads;
    work(row * cut.tokens * shape.stride + head * cut.width,
         row * cut.tokens * shape.out_stride + head * cut.width, scratch.get());
  });
}

HeadShape head_shape(const Cut& cut) {
  const std::int64_t dim = cut.heads * cut.width;
  return {cut.tokens, cut.width, 3 * dim, dim, static_cast<float>(cut.scale)};
}

void attend_all(const at::Tensor& qkv, const at::Tensor& out) {
  const Cut cut(qkv);
  const AttentionKernel* const kernel = kernel_for(qkv);
  if (kernel == nullptr) return for_each_piece(cut, [&](const Piece& piece) { attend(piece, qkv, out); });
  const HeadShape shape = head_shape(cut);
  const float* in = qkv.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  for_each_head(cut, shape, *kernel, [&](std::int64_t at, std::int64_t at_out, float* scratch) {
    const float* q = in + at;
    kernel->forward(shape, q, q + shape.out_stride, q + 2 * shape.out_stride, to + at_out, scratch);
  });
}

void attend_all_backward(const at::Tensor& qkv, const at::Tensor& d_out, const at::Tensor& d_qkv) {
  const Cut cut(qkv);
  const AttentionKernel* const kernel = kernel_for(qkv);
  if (kernel == nullptr) {
    return for_each_piece(cut, [&](const Piece& piece) { attend_backward(piece, qkv, d_out, d_qkv); });
  }
  const HeadShape shape = head_shape(cut);
  const float *in = qkv.const_data_ptr<float>(), *d = d_out.const_data_ptr<float>();
  float* d_in = d_qkv.mutable_data_ptr<float>();
  for_each_head(cut, shape, *kernel, [&](std::int64_t at, std::int64_t at_out, float* scratch) {
    const float* q = in + at;
    float* d_q = d_in + at;
    kernel->backward(shape, q, q + shape.out_stride, q + 2 * shape.out_stride, d + at_out, d_q,
                     d_q + shape.out_stride, d_q + 2 * shape.out_stride, scratch);
  });
}

/// bfloat16, which the kernels do not know: in float32, rounded again. What is kept stays half as large.
at::Tensor widened(const at::Tensor& t) {
  return t.scalar_type() == at::kBFloat16 ? t.to(at::kFloat) : t;
}

struct InPieces : public torch::autograd::Function<InPieces> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& qkv) {
    RECORD_FUNCTION("cosub::self_attention", std::vector<c10::IValue>{qkv});
    context->save_for_backward({qkv});
    const at::Tensor wide = widened(qkv);
    at::Tensor out = at::empty({qkv.size(0), qkv.size(1), qkv.size(3) * qkv.size(4)}, wide.options());
    attend_all(wide, out);
    return out.to(qkv.scalar_type());
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const at::Tensor qkv = context->get_saved_variables().at(0), wide = widened(qkv),
                     d_out = gradients.at(0).to(wide.scalar_type()).contiguous();
    at::Tensor d_qkv = at::empty_like(wide);
    attend_all_backward(wide, d_out, d_qkv);
    return {d_qkv.to(qkv.scalar_type())};
  }
};

/// On a CPU: float32 and double always; bfloat16 where there is code for the head's width, which beats
/// LibTorch's.
bool goes_in_pieces(const at::Tensor& qkv) {
  if (!qkv.is_cpu()) return false;
  const at::ScalarType dtype = qkv.scalar_type();
  return dtype == at::kFloat || dtype == at::kDouble ||
         (dtype == at::kBFloat16 && attention_kernel_for(qkv.size(4)) != nullptr);
}

at::Tensor in_one(const at::Tensor& qkv) {
  // unbind: the gradients of the three are written into one tensor; of select they would be added up.
  const std::vector<at::Tensor> parts = qkv.permute({2, 0, 3, 1, 4}).unbind(0);
  const at::Tensor out = fused_attention(parts[0], parts[1], parts[2]);
  return out.transpose(1, 2).reshape({qkv.size(0), qkv.size(1), qkv.size(3) * qkv.size(4)});
}

}  // namespace

at::Tensor self_attention(const at::Tensor& qkv) {
  const bool in_pieces = goes_in_pieces(qkv);
  const auto product = [&](const at::Tensor& operand) {
    return in_pieces ? InPieces::apply(operand.contiguous()) : in_one(operand);
  };
  if (!rounds_products(qkv)) return product(qkv);
  const c10::impl::ExcludeDispatchKeyGuard without_autocast(c10::autocast_dispatch_keyset);
  return rounded_to_bf16(product(rounded_to_bf16(qkv.to(at::kFloat))));
}

at::Tensor attention_of_queries(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                std::int64_t num_heads) {
  const auto heads = [num_heads](const at::Tensor& t) {  // [N, L, dim] -> [N, heads, L, width]
    return t.reshape({t.size(0), t.size(1), num_heads, t.size(2) / num_heads}).transpose(1, 2);
  };
  if (!rounds_products(q)) {
    return fused_attention(heads(q), heads(k), heads(v)).transpose(1, 2).flatten(2);
  }
  const c10::impl::ExcludeDispatchKeyGuard without_autocast(c10::autocast_dispatch_keyset);
  const auto rounded = [](const at::Tensor& t) { return rounded_to_bf16(t.to(at::kFloat)); };
  return rounded_to_bf16(attention_of_queries(rounded(q), rounded(k), rounded(v), num_heads));
}

}  // namespace cosub::model
