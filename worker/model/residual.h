// The one residual seam. Every residual branch of every architecture goes through ResidualSeam::apply, which
// draws the kept rows, runs the branch on those only, scales and adds back. Cosub, plain stochastic depth,
// evaluation of a named submodel and recorded draws are modes of this one function. (Stochastic depth: Huang
// et al., arXiv 1603.09382; efficient by rows: DINOv2, arXiv 2304.07193; cosub: arXiv 2212.04884.) One seam
// per model; the model holds a reference; not thread-safe. No MPI, no data, no training loop here.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "worker/model/norm.h"

namespace cosub::model {

enum class DepthMode { kFixed, kBernoulli };

/// Kept rows of one microbatch: by branch, ascending row indices into the 2B (or B) rows, halves
/// concatenated. A branch whose rate is 0 has an empty entry with `all` set.
struct KeptRows {
  struct Branch {
    bool all = true;
    std::vector<std::int64_t> rows;  // when not all: indices into the rows of the whole tensor
    double scale = 1.0;              // applied to the branch's output: B/K fixed, 1/(1-d) Bernoulli
  };
  std::vector<Branch> branches;

  /// The rows of all branches, one after the other: [n] int64, in pinned memory where `pinned`.
  at::Tensor all_rows(bool pinned) const;
};

/// A branch as the model declares it while it is built, in execution order.
struct BranchInfo {
  std::string name;        // timm's module path, e.g. blocks.3.attn (ViT has two per block), layer2.0
  std::int64_t block = 0;  // index of its block, counted over the whole model; kNeverDrops: in no block
  double drop_rate = 0.0;
  std::vector<std::string>
      last_affine;  // the parameters that scale its output linearly, e.g. blocks.3.ls1.gamma
};
inline constexpr std::int64_t kNeverDrops = -1;  // part of every submodel, at every drop rate

/// What one forward pass is: how many images, how many views of them, and where the draws come from.
struct Pass {
  enum class Kind { kFull, kTrain, kSubmodel };
  Kind kind = Kind::kFull;
  std::int64_t images = 0;          // B
  std::int64_t views = 1;           // 2 for cosub: rows [0,B) are submodel 1, [B,2B) submodel 2
  bool share_stem = true;           // run what comes before the first branch that can drop on B rows
  KeptRows kept;                    // kTrain
  at::Tensor rows;                  // kept.all_rows() on the model's device, or undefined: copied when needed
  std::vector<bool> keep_block;     // kSubmodel: by block index; a block left out keeps its shortcut alone
  std::vector<double> block_scale;  // kSubmodel: factor of the kept blocks' branches; empty: 1
};

/// Draws kept rows for every branch: K = max(1, floor((1-d)B + 0.5)) rows of each half uniformly without
/// replacement, independently per half, branch and microbatch (kFixed; K = B counts as rate 0), or each row
/// on its own with probability 1-d (kBernoulli). A pure function of its arguments.
KeptRows draw_kept_rows(const std::vector<BranchInfo>& branches, DepthMode mode, std::int64_t images,
                        std::int64_t views, std::uint64_t stream, std::int64_t step, std::int64_t microbatch);

/// 1 - K/B for fixed counts (what really happens); d itself for Bernoulli.
double effective_drop_rate(double drop_rate, DepthMode mode, std::int64_t images);

class ResidualSeam {
 public:
  struct Branch {
    template <class Function>
    Branch(Function function_, at::Tensor layer_scale_ = {},
           Norm norm_ = {})  // implicit: most are a function alone
        : function(std::move(function_)), layer_scale(std::move(layer_scale_)), norm(std::move(norm_)) {}

    std::function<at::Tensor(const at::Tensor&)> function;
    /// [C] or undefined: LayerScale's factors of the result's last dimension (arXiv 2103.17239). Given here
    /// and not multiplied in by the function, they cost no passes over memory of their own on a CPU.
    at::Tensor layer_scale;
    /// What the function's input goes through first, or undefined. On a GPU the rows are taken out and
    /// normalised in one pass, to bfloat16 under autocast to it: the function begins with a matrix product.
    Norm norm;
  };

  /// While building: declares the next branch; the returned index is passed to apply. Blocks are numbered 0,
  /// 1, ...
  std::int64_t declare(BranchInfo info);
  const std::vector<BranchInfo>& branches() const { return branches_; }
  std::int64_t num_blocks() const;

  /// One rate for each block, for all of its branches (see check_drop_rates).
  void set_drop_rates(const std::vector<double>& by_block);

  void begin(Pass pass);  // before each forward; std::logic_error when it does not fit the branches
  const Pass& pass() const { return pass_; }

  /// First thing in a forward: the images [B, ...] as they are while the stem can be shared, otherwise
  /// (share_stem off, or no branch drops anything) repeated to views * B rows.
  at::Tensor start(const at::Tensor& images) const;

  /// Keep only each branch's input and run the branch again in the backward pass (recompute.h).
  void set_recompute(bool recompute) { recompute_ = recompute; }

  /// shortcut + branch(x[kept]) * scale (and its layer_scale) on the kept rows; shortcut alone on the others.
  /// x: [N, ...] input of the branch; shortcut: [N, ...] what the result is added to (x itself, or its
  /// projection, which ran on all rows). Differentiable. While N == B although views == 2 (shared stem), the
  /// first branch that does not keep everything doubles both to 2B rows first. A branch may run a second
  /// time, during backward: it must capture nothing that is gone by then.
  at::Tensor apply(std::int64_t index, const at::Tensor& x, const at::Tensor& shortcut, const Branch& branch);
  /// The same with x itself as the shortcut. On a GPU an x that is moved in and that nobody else has is
  /// overwritten with the result: the rows that are dropped cost nothing then.
  at::Tensor apply(std::int64_t index, at::Tensor x, const Branch& branch);
  /// x [N, L, D], of whose branch only the first of L is wanted: the branch gives [kept, 1, D], and the
  /// result is [N, 1, D].
  at::Tensor apply_to_first(std::int64_t index, at::Tensor x, const Branch& branch);

  /// After the last branch: guarantees views * B rows.
  at::Tensor finish(const at::Tensor& x) const;

 private:
  bool is_shared(const at::Tensor& x) const { return pass_.views > 1 && x.size(0) == pass_.images; }
  bool drops_rows(std::int64_t index) const;
  const at::Tensor& rows_of(std::int64_t index, const at::Device& device);
  at::Tensor run(const at::Tensor& x, const Branch& branch) const;
  bool runs_by_kernels(const at::Tensor& x, const Branch& branch) const;
  at::Tensor run_and_scale(const at::Tensor& x, const Branch& branch) const;
  at::Tensor add_everywhere(const at::Tensor& x, const at::Tensor& shortcut, const Branch& branch) const;

  std::vector<BranchInfo> branches_;
  bool recompute_ = false;
  Pass pass_;
  std::vector<at::Tensor> rows_;  // by branch: views of pass_.rows, or made of pass_.kept when first needed
};

}  // namespace cosub::model
