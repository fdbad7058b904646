#include "worker/model/residual.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "common/config/kept_rows.h"
#include "common/random.h"
#include "worker/model/backward_node.h"
#include "worker/model/branch_rows.h"
#include "worker/model/recompute.h"
#include "worker/model/row_split.h"

namespace cosub::model {
namespace {

/// Kept rows of one half, appended with the half's offset.
void draw_half(KeptRows::Branch& branch, double drop_rate, DepthMode mode, std::int64_t images,
               std::int64_t offset, KeyedRandom random) {
  if (mode == DepthMode::kFixed) {
    for (std::int64_t row : random.choose(images, config::kept_count(drop_rate, images))) {
      branch.rows.push_back(offset + row);
    }
    return;
  }
  for (std::int64_t row = 0; row < images; ++row) {
    if (random.uniform() >= drop_rate) branch.rows.push_back(offset + row);
  }
}

/// Row operations along dim 0 return NCHW whatever they are given; going through this view keeps
/// channels_last.
bool is_channels_last(const at::Tensor& x) {
  return x.dim() == 4 && !x.is_contiguous() && x.is_contiguous(at::MemoryFormat::ChannelsLast);
}
at::Tensor to_nhwc(const at::Tensor& x) {
  return x.permute({0, 2, 3, 1});
}
at::Tensor to_nchw(const at::Tensor& x) {
  return x.permute({0, 3, 1, 2});
}

at::Tensor select_rows(const at::Tensor& x, const at::Tensor& rows) {
  if (is_channels_last(x)) return to_nchw(to_nhwc(x).index_select(0, rows));
  return x.index_select(0, rows);
}

at::Tensor add_rows(const at::Tensor& x, const at::Tensor& rows, const at::Tensor& branch, double scale) {
  if (is_channels_last(x)) return to_nchw(to_nhwc(x).index_add(0, rows, to_nhwc(branch), scale));
  return x.index_add(0, rows, branch, scale);
}

/// Under autocast branch and shortcut may differ in dtype; a plain addition would promote likewise.
at::Tensor add_rows_as_promoted(const at::Tensor& base, const at::Tensor& rows, const at::Tensor& branch,
                                double scale) {
  const at::ScalarType dtype = at::promote_types(base.scalar_type(), branch.scalar_type());
  return add_rows(base.to(dtype), rows, branch.to(dtype), scale);
}

/// Under autocast a branch gives bfloat16; what adds it back in one pass on a CPU takes float32
/// (row_split.h).
at::Tensor widened_on_cpu(const at::Tensor& output) {
  return output.is_cpu() && output.scalar_type() == at::kBFloat16 ? output.to(at::kFloat) : output;
}

/// whole with scale * layer_scale * output added to some rows (undefined: all), by the kernels of a GPU where
/// they take it.
at::Tensor add_output(const at::Tensor& whole, const at::Tensor& rows, const at::Tensor& output, double scale,
                      const at::Tensor& layer_scale, bool in_place) {
  if (adds_branch(whole, output, layer_scale))
    return add_branch(whole, rows, output, scale, layer_scale, in_place);
  const at::Tensor scaled = layer_scale.defined() ? output * layer_scale : output;
  return rows.defined() ? add_rows_as_promoted(whole, rows, scaled, scale) : whole + scaled;
}

/// x + scale * branch(x) on some rows (undefined: all), by the kernels of a GPU; in place where nobody else
/// has x, nor its backward pass.
at::Tensor add_by_kernels(at::Tensor x, const at::Tensor& rows, double scale,
                          const ResidualSeam::Branch& branch) {
  const bool given_up = is_ours_alone(x);
  const auto [whole, normed] = norm_rows(x, rows, branch.norm);
  x.reset();
  const at::Tensor output = branch.function(normed).contiguous();
  return add_output(whole, rows, output, scale, branch.layer_scale, given_up && is_ours_alone(whole));
}

at::Tensor repeat_rows(const at::Tensor& x, std::int64_t views) {
  return at::cat(std::vector<at::Tensor>(static_cast<std::size_t>(views), x));
}

}  // namespace

at::Tensor KeptRows::all_rows(bool pinned) const {
  std::int64_t size = 0;
  for (const Branch& branch : branches) size += static_cast<std::int64_t>(branch.rows.size());
  at::Tensor rows = at::empty({size}, at::TensorOptions(at::kLong).pinned_memory(pinned));
  std::int64_t* to = rows.mutable_data_ptr<std::int64_t>();
  for (const Branch& branch : branches) to = std::copy(branch.rows.begin(), branch.rows.end(), to);
  return rows;
}

double effective_drop_rate(double drop_rate, DepthMode mode, std::int64_t images) {
  if (mode == DepthMode::kBernoulli) return drop_rate;
  return config::rounded_drop_rate(drop_rate, images);
}

KeptRows draw_kept_rows(const std::vector<BranchInfo>& branches, DepthMode mode, std::int64_t images,
                        std::int64_t views, std::uint64_t stream, std::int64_t step,
                        std::int64_t microbatch) {
  KeptRows kept;
  kept.branches.resize(branches.size());
  for (std::size_t i = 0; i < branches.size(); ++i) {
    const double rate = branches[i].drop_rate;
    if (effective_drop_rate(rate, mode, images) <= 0.0) continue;
    KeptRows::Branch& branch = kept.branches[i];
    branch.all = false;
    branch.scale = mode == DepthMode::kBernoulli
                       ? 1.0 / (1.0 - rate)
                       : static_cast<double>(images) / static_cast<double>(config::kept_count(rate, images));
    for (std::int64_t half = 0; half < views; ++half) {
      const auto lane = static_cast<std::uint32_t>(static_cast<std::int64_t>(i) * 2 + half);
      draw_half(branch, rate, mode, images, half * images,
                KeyedRandom(stream, Purpose::kKeptRows, static_cast<std::uint64_t>(step),
                            static_cast<std::uint64_t>(microbatch), lane));
    }
  }
  return kept;
}

std::int64_t ResidualSeam::declare(BranchInfo info) {
  branches_.push_back(std::move(info));
  return static_cast<std::int64_t>(branches_.size()) - 1;
}

std::int64_t ResidualSeam::num_blocks() const {
  std::int64_t blocks = 0;
  for (const BranchInfo& branch : branches_) blocks = std::max(blocks, branch.block + 1);
  return blocks;
}

void ResidualSeam::set_drop_rates(const std::vector<double>& by_block) {
  for (BranchInfo& branch : branches_) {
    if (branch.block != kNeverDrops) branch.drop_rate = by_block.at(static_cast<std::size_t>(branch.block));
  }
}

void ResidualSeam::begin(Pass pass) {
  if (pass.kind == Pass::Kind::kTrain && pass.kept.branches.size() != branches_.size()) {
    throw std::logic_error("ResidualSeam::begin: kept rows for another number of branches");
  }
  if (pass.kind == Pass::Kind::kSubmodel &&
      (pass.keep_block.size() != static_cast<std::size_t>(num_blocks()) ||
       (!pass.block_scale.empty() && pass.block_scale.size() != pass.keep_block.size()))) {
    throw std::logic_error("ResidualSeam::begin: keep_block or block_scale for another number of blocks");
  }
  pass_ = std::move(pass);
  rows_.assign(branches_.size(), at::Tensor());
  if (!pass_.rows.defined()) return;
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < branches_.size(); ++i) {
    const auto count = static_cast<std::int64_t>(pass_.kept.branches.at(i).rows.size());
    rows_[i] = pass_.rows.narrow(0, offset, count);
    offset += count;
  }
}

at::Tensor ResidualSeam::start(const at::Tensor& images) const {
  if (pass_.views == 1) return images;
  const auto& branches = pass_.kept.branches;
  const bool some_drop = pass_.kind == Pass::Kind::kTrain &&
                         std::any_of(branches.begin(), branches.end(), [](const auto& b) { return !b.all; });
  return pass_.share_stem && some_drop ? images : repeat_rows(images, pass_.views);
}

const at::Tensor& ResidualSeam::rows_of(std::int64_t index, const at::Device& device) {
  at::Tensor& rows = rows_.at(static_cast<std::size_t>(index));
  if (!rows.defined()) {
    rows = at::tensor(pass_.kept.branches[static_cast<std::size_t>(index)].rows, at::kLong).to(device);
  }
  return rows;
}

at::Tensor ResidualSeam::run(const at::Tensor& x, const Branch& branch) const {
  if (!branch.norm.defined())
    return recompute_ ? recomputed_in_backward(x, branch.function) : branch.function(x);
  if (!recompute_) return branch.function(branch.norm(x));
  return recomputed_in_backward(x, [function = branch.function, norm = branch.norm](const at::Tensor& rows) {
    return function(norm(rows));
  });
}

/// Not with recompute, which keeps less: the kept rows alone, not all that they were taken from.
bool ResidualSeam::runs_by_kernels(const at::Tensor& x, const Branch& branch) const {
  return !recompute_ && norms_rows(x, branch.norm);
}

bool ResidualSeam::drops_rows(std::int64_t index) const {
  return pass_.kind == Pass::Kind::kTrain && !pass_.kept.branches.at(static_cast<std::size_t>(index)).all;
}

/// With recompute the product is computed again, too: its gradient needs the branch's output.
at::Tensor ResidualSeam::run_and_scale(const at::Tensor& x, const Branch& branch) const {
  if (!branch.layer_scale.defined()) return run(x, branch);
  Branch scaled = branch;
  scaled.function = [function = branch.function, layer_scale = branch.layer_scale](const at::Tensor& rows) {
    return function(rows) * layer_scale;
  };
  return run(x, scaled);
}

at::Tensor ResidualSeam::add_everywhere(const at::Tensor& x, const at::Tensor& shortcut,
                                        const Branch& branch) const {
  if (x.is_same(shortcut) && runs_by_kernels(x, branch)) return add_by_kernels(x, at::Tensor(), 1.0, branch);
  if (!branch.layer_scale.defined() || !splits_rows(shortcut)) return shortcut + run_and_scale(x, branch);
  const at::Tensor output = widened_on_cpu(run(x, branch));
  if (!splits_rows(output)) return shortcut + output * branch.layer_scale;
  std::vector<std::int64_t> rows(static_cast<std::size_t>(x.size(0)));
  std::iota(rows.begin(), rows.end(), 0);
  return merge_rows(shortcut, rows, output, 1.0, branch.layer_scale);
}

at::Tensor ResidualSeam::apply(std::int64_t index, const at::Tensor& x, const at::Tensor& shortcut,
                               const Branch& branch) {
  const auto i = static_cast<std::size_t>(index);
  const std::int64_t block = branches_.at(i).block;
  if (pass_.kind == Pass::Kind::kSubmodel && block != kNeverDrops) {
    const auto b = static_cast<std::size_t>(block);
    if (!pass_.keep_block.at(b)) return shortcut;
    if (!pass_.block_scale.empty()) return shortcut + pass_.block_scale[b] * run_and_scale(x, branch);
  }
  if (!drops_rows(index)) return add_everywhere(x, shortcut, branch);

  const KeptRows::Branch& kept = pass_.kept.branches[i];
  const bool shared = is_shared(x);
  const at::Tensor base = shared ? repeat_rows(shortcut, pass_.views) : shortcut;
  if (kept.rows.empty()) return base;
  if (!shared && x.is_same(shortcut) && splits_rows(x)) {
    const auto [whole, part] = split_rows(x, kept.rows);
    const at::Tensor output = widened_on_cpu(run(part, branch));
    if (splits_rows(output)) return merge_rows(whole, kept.rows, output, kept.scale, branch.layer_scale);
    return add_output(whole, rows_of(index, x.device()), output, kept.scale, branch.layer_scale,
                      /*in_place=*/false);
  }
  const at::Tensor& rows = rows_of(index, x.device());
  // While the stem is shared row r of the 2B rows is row r mod B of what is there.
  const at::Tensor input = select_rows(x, shared ? rows.remainder(pass_.images) : rows);
  return add_rows_as_promoted(base, rows, run_and_scale(input, branch), kept.scale);
}

at::Tensor ResidualSeam::apply(std::int64_t index, at::Tensor x, const Branch& branch) {
  if (pass_.kind == Pass::Kind::kSubmodel || !runs_by_kernels(x, branch)) return apply(index, x, x, branch);
  if (!drops_rows(index)) return add_by_kernels(std::move(x), at::Tensor(), 1.0, branch);
  const KeptRows::Branch& kept = pass_.kept.branches[static_cast<std::size_t>(index)];
  if (is_shared(x)) x = repeat_rows(x, pass_.views);
  if (kept.rows.empty()) return x;
  const at::Tensor& rows = rows_of(index, x.device());
  return add_by_kernels(std::move(x), rows, kept.scale, branch);
}

at::Tensor ResidualSeam::apply_to_first(std::int64_t index, at::Tensor x, const Branch& branch) {
  const auto first_of = [](const at::Tensor& t) { return t.narrow(1, 0, 1); };
  const auto i = static_cast<std::size_t>(index);
  if (!drops_rows(index) || is_shared(x) || pass_.kept.branches[i].rows.empty() ||
      !runs_by_kernels(x, branch))
    return apply(index, x, first_of(x), branch);
  // The shortcut is taken of what norm_rows gives, so that one gradient of x is added to the other in place.
  const at::Tensor& rows = rows_of(index, x.device());
  const auto [whole, normed] = norm_rows(x, rows, branch.norm);
  const at::Tensor shortcut = first_of(whole).contiguous(), output = branch.function(normed).contiguous();
  return add_output(shortcut, rows, output, pass_.kept.branches[i].scale, branch.layer_scale,
                    /*in_place=*/false);
}

at::Tensor ResidualSeam::finish(const at::Tensor& x) const {
  return is_shared(x) ? repeat_rows(x, pass_.views) : x;
}

}  // namespace cosub::model
