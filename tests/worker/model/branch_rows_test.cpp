// The autograd nodes over our CUDA kernels, and models that run through them: the emulated kernels on the
// CPU, the real ones where there is a GPU.
#include "worker/model/branch_rows.h"

#include <gtest/gtest.h>

#include <optional>

#include "tests/worker/kernels/kernel_rig.h"
#include "tests/worker/model/autocast_on.h"
#include "tests/worker/model/models.h"
#include "worker/model/gradient_in_place.h"
#include "worker/model/linear_node.h"
#include "worker/model/mlp.h"
#include "worker/model/residual.h"

namespace cosub::model {
namespace {

using testing::AutocastOn;
using testing::distance;
using Rows = std::vector<std::int64_t>;
using Tensors = std::vector<at::Tensor>;

constexpr double kEps = 1e-6;

class BranchRows : public testing::KernelTest {
 protected:
  /// {x, weight, bias, gamma}
  Tensors inputs() const {
    return {numbers({6, 5, 96}, 1), numbers({96}, 2) + 1.0, numbers({96}, 3), numbers({96}, 4)};
  }

  at::Tensor by_us(const Tensors& in, const at::Tensor& x, const Rows& kept, double scale) const {
    const at::Tensor index = kept.empty() ? at::Tensor() : rows(kept);
    const auto [whole, normed] = norm_rows(x, index, {in[1], in[2], kEps});
    return add_branch(whole, index, normed.tanh(), scale, in[3]);
  }
  static at::Tensor by_torch(const Tensors& in, const at::Tensor& x, const Rows& kept, double scale) {
    const at::Tensor index = kept.empty() ? at::arange(x.size(0), at::kLong) : at::tensor(kept, at::kLong);
    const at::Tensor normed = at::layer_norm(x.index_select(0, index), {96}, in[1], in[2], kEps);
    return x.index_add(0, index, normed.tanh() * in[3], scale);
  }

  /// Output and gradients of branches one behind the other; `others` uses values between them again.
  template <typename Branch>
  static Tensors run(const Tensors& values, const Branch& branch, bool others, const at::Tensor& weights) {
    Tensors in;
    for (const at::Tensor& value : values) in.push_back(value.detach().clone().requires_grad_());
    const at::Tensor one = branch(in, in[0], Rows{4, 0}, 2.0),
                     two = branch(in, one, Rows{1, 2, 5, 0, 3}, 1.5);
    at::Tensor y = branch(in, two, Rows{}, 1.0);
    if (others) y = y + one.sin() + in[0] * two;
    (y * weights).sum().backward();
    Tensors found = {y.detach()};
    for (const at::Tensor& tensor : in) found.push_back(tensor.grad());
    return found;
  }

  Tensors ours(bool others) const {
    return run(
        inputs(), [this](const auto&... a) { return by_us(a...); }, others, numbers({6, 5, 96}, 9));
  }
  Tensors exact(bool others) const {
    Tensors wide;
    for (const at::Tensor& value : inputs()) wide.push_back(value.to(at::kCPU, at::kDouble));
    return run(
        wide, [](const auto&... a) { return by_torch(a...); }, others,
        numbers({6, 5, 96}, 9).to(at::kCPU, at::kDouble));
  }
};

TEST_P(BranchRows, GiveTheNumbersOfFloat64) {
  for (const bool others : {false, true}) {
    const Tensors mine = ours(others), wanted = exact(others);
    for (std::size_t i = 0; i < mine.size(); ++i) EXPECT_LT(distance(mine[i], wanted[i]), 3e-6) << i;
  }
}

TEST_P(BranchRows, UnderAutocastTheBranchIsBfloat16AndTheSumFloat32) {
  const AutocastOn scope(device());
  const Tensors in = inputs();
  const auto [whole, normed] = norm_rows(in[0], rows({1, 3}), {in[1], in[2], kEps});
  EXPECT_EQ(normed.scalar_type(), at::kBFloat16);
  EXPECT_EQ(add_branch(whole, rows({1, 3}), normed, 1.0, in[3]).scalar_type(), at::kFloat);
  const Tensors mine = ours(false), wanted = exact(false);
  for (std::size_t i = 0; i < mine.size(); ++i) EXPECT_LT(distance(mine[i], wanted[i]), 1e-2) << i;
}

TEST_P(BranchRows, AGradientThatTheCallerKeepsStaysAsItWas) {
  Tensors in = inputs();
  in[0].requires_grad_();
  const at::Tensor gradient = numbers(in[0].sizes(), 5), kept = gradient.clone();
  by_us(in, in[0], {0, 3}, 2.0).backward(gradient);
  EXPECT_TRUE(at::equal(gradient, kept));
}

TEST_P(BranchRows, ShortcutOrBranchAlone) {
  const Tensors in = inputs();
  at::Tensor x = in[0].clone().requires_grad_();
  const Norm norm = {in[1], in[2], kEps};
  norm_rows(x, rows({1, 4}), norm).first.sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), at::ones_like(x)));
  x.mutable_grad().reset();
  (norm_rows(x, rows({1, 4}), norm).second * numbers({2, 5, 96}, 6)).sum().backward();
  EXPECT_EQ(x.grad()[0].abs().max().item<float>(), 0);
  EXPECT_GT(x.grad()[4].abs().max().item<float>(), 0);
}

TEST_P(BranchRows, TakesOnlyWhatTheKernelsTake) {
  const Tensors in = inputs();
  const Norm norm = {in[1], in[2], kEps};
  EXPECT_TRUE(norms_rows(in[0], norm));
  EXPECT_FALSE(norms_rows(in[0].to(at::kDouble), norm));
  EXPECT_FALSE(norms_rows(in[0].transpose(0, 1), norm));
  EXPECT_FALSE(norms_rows(in[0], Norm()));
  EXPECT_FALSE(adds_branch(in[0], in[0].to(at::kHalf), in[3]));
  kernels::set_kernels(nullptr);
  EXPECT_FALSE(norms_rows(in[0], norm));
}

class MlpByKernels : public testing::KernelTest {
 protected:
  Tensors inputs(at::Device where, at::ScalarType dtype, std::int64_t hidden = 72) const {
    Tensors in;
    for (const at::Tensor& value :
         {numbers({3, 17, 40}, 1), numbers({hidden, 40}, 2).mul_(0.3), numbers({hidden}, 3),
          numbers({24, hidden}, 4).mul_(0.2), numbers({24}, 5)})
      in.push_back(value.to(where, dtype).requires_grad_());
    return in;
  }
  static at::Tensor ours(const Tensors& in) { return mlp(in[0], {in[1], in[2]}, {in[3], in[4]}); }
  static at::Tensor by_torch(const Tensors& in) {
    return at::linear(at::gelu(at::linear(in[0], in[1], in[2])), in[3], in[4]);
  }

  template <typename Function>
  Tensors run(Tensors in, const Function& function) const {
    at::Tensor y = function(in);
    const at::Tensor exact = y.scalar_type() == at::kBFloat16 ? y.to(at::kFloat) : y;
    (exact * numbers(y.sizes(), 7).to(exact.options())).sum().backward();
    Tensors found = {y.detach()};
    for (const at::Tensor& tensor : in) found.push_back(tensor.grad());
    return found;
  }
};

TEST_P(MlpByKernels, GivesTheNumbersOfFloat64) {
  const Tensors exact = run(inputs(at::kCPU, at::kDouble), by_torch);
  const Tensors mine = run(inputs(device(), at::kFloat), ours);
  for (std::size_t i = 0; i < mine.size(); ++i) EXPECT_LT(distance(mine[i], exact[i]), 1e-6) << i;
}

TEST_P(MlpByKernels, InBfloat16ErrsLittleMoreThanAutocast) {
  for (const std::int64_t hidden : {72, 70}) {  // the latter is not what products with GELU in them take
    const auto exact = run(inputs(at::kCPU, at::kDouble, hidden), by_torch);
    const AutocastOn scope(device());
    const Tensors mine = run(inputs(device(), at::kFloat, hidden), ours),
                  theirs = run(inputs(device(), at::kFloat, hidden), by_torch);
    EXPECT_EQ(mine[0].scalar_type(), at::kBFloat16);
    for (std::size_t i = 0; i < mine.size(); ++i)
      EXPECT_LT(distance(mine[i], exact[i]), 1.5 * distance(theirs[i], exact[i])) << i << ", " << hidden;
    for (std::size_t i = 1; i < mine.size(); ++i) EXPECT_EQ(mine[i].scalar_type(), at::kFloat) << i;
  }
}

/// What is wanted of a projection to queries, keys and values: an output that mixes the three.
class LinearByKernels : public testing::KernelTest {
 protected:
  static constexpr std::int64_t kHeads = 3, kWidth = 8;

  Tensors inputs(at::Device where, at::ScalarType dtype) const {
    Tensors in;
    for (const at::Tensor& value :
         {numbers({4, 11, 40}, 1), numbers({3 * kHeads * kWidth, 40}, 2).mul_(0.3), numbers({72}, 3)})
      in.push_back(value.to(where, dtype).requires_grad_());
    return in;
  }
  static at::Tensor mixed(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return (q * v.sin()).transpose(1, 2).flatten(2) + 0.5 * k.transpose(1, 2).flatten(2);
  }
  static at::Tensor projected_by_us(const Tensors& in) {
    const auto [q, k, v] = project_by_kernels(in[0], in[1], in[2], kHeads);
    return mixed(q, k, v);
  }
  static at::Tensor projected_by_torch(const Tensors& in) {
    const at::Tensor qkv = at::linear(in[0], in[1], in[2]).view({4, 11, 3, kHeads, kWidth});
    const Tensors parts = qkv.permute({2, 0, 3, 1, 4}).unbind(0);
    return mixed(parts[0], parts[1], parts[2]);
  }
  static at::Tensor linear_by_us(const Tensors& in) { return linear_by_node(in[0], in[1], in[2]); }
  static at::Tensor linear_by_torch(const Tensors& in) { return at::linear(in[0], in[1], in[2]); }

  template <typename Function>
  Tensors run(Tensors in, const Function& function) const {
    const at::Tensor y = function(in);
    (y * numbers(y.sizes(), 7).to(y.options())).sum().backward();
    Tensors found = {y.detach()};
    for (const at::Tensor& tensor : in) found.push_back(tensor.grad());
    return found;
  }

  template <typename Ours, typename Theirs>
  void compare(const Ours& ours, const Theirs& theirs) const {
    const Tensors exact = run(inputs(at::kCPU, at::kDouble), theirs),
                  mine = run(inputs(device(), at::kFloat), ours);
    for (std::size_t i = 0; i < mine.size(); ++i) EXPECT_LT(distance(mine[i], exact[i]), 2e-6) << i;
    const AutocastOn scope(device());
    const Tensors rounded = run(inputs(device(), at::kFloat), ours),
                  usual = run(inputs(device(), at::kFloat), theirs);
    for (std::size_t i = 0; i < rounded.size(); ++i) {
      EXPECT_LT(distance(rounded[i], exact[i]), 1.5 * distance(usual[i], exact[i])) << i;
      EXPECT_EQ(rounded[i].scalar_type(), usual[i].scalar_type()) << i;
    }
  }
};

TEST_P(LinearByKernels, GivesTheNumbersOfFloat64AndUnderAutocastThoseOfAutocast) {
  compare(linear_by_us, linear_by_torch);
}

TEST_P(LinearByKernels, ProjectsToQueriesKeysAndValues) {
  compare(projected_by_us, projected_by_torch);
}

TEST_P(LinearByKernels, WhatNobodyUsesGetsNoGradient) {
  Tensors in = inputs(device(), at::kFloat);
  project_by_kernels(in[0], in[1], in[2], kHeads)[1].sum().backward();  // keys alone
  const std::int64_t dim = kHeads * kWidth;
  EXPECT_EQ(in[1].grad().narrow(0, 0, dim).abs().max().item<float>(), 0);
  EXPECT_GT(in[1].grad().narrow(0, dim, dim).abs().min().item<float>(), 0);
  EXPECT_EQ(in[2].grad().narrow(0, 2 * dim, dim).abs().max().item<float>(), 0);
  in[1].set_requires_grad(false);
  in[1].mutable_grad().reset();
  linear_by_node(in[0], in[1], at::Tensor()).sum().backward();
  EXPECT_FALSE(in[1].grad().defined());
}

TEST_P(LinearByKernels, AGradientOfAWeightThatIsZeroIsWritten) {
  for (const bool bfloat16 : {false, true}) {
    std::optional<AutocastOn> scope;
    if (bfloat16) scope.emplace(device());
    for (const auto function : {linear_by_us, projected_by_us}) {
      const Tensors usual = run(inputs(device(), at::kFloat), function);
      Tensors in = inputs(device(), at::kFloat);
      in[1].mutable_grad() = at::zeros_like(in[1]);
      gradients_are_zero({in[1]});
      const at::Tensor y = function(in);
      in[1].mutable_grad().fill_(1);  // which shows that it is not added to
      (y * numbers(y.sizes(), 7).to(y.options())).sum().backward();
      EXPECT_TRUE(at::equal(in[1].grad(), usual[2])) << bfloat16;
    }
  }
  gradients_are_zero({});
}

TEST_P(LinearByKernels, TakesOnlyWhatTheKernelsTake) {
  const Tensors in = inputs(device(), at::kFloat);
  EXPECT_TRUE(is_linear_for_kernels(in[0], in[1], in[2]));
  EXPECT_TRUE(is_linear_for_kernels(in[0], in[1], at::Tensor()));
  EXPECT_FALSE(is_linear_for_kernels(in[0].to(at::kDouble), in[1], in[2]));
  EXPECT_FALSE(is_linear_for_kernels(in[0].transpose(0, 1), in[1], in[2]));
  kernels::set_kernels(nullptr);
  EXPECT_FALSE(is_linear_for_kernels(in[0], in[1], in[2]));
}

/// Where a residual stream lies, from one branch to the next.
class StreamByKernels : public BranchRows {
 protected:
  /// Two branches that each keep 2 of 6 rows.
  static void begin(ResidualSeam& seam) {
    seam.declare({"one", 0, 0.5, {}});
    seam.declare({"two", 1, 0.5, {}});
    Pass pass;
    pass.kind = Pass::Kind::kTrain;
    pass.images = 6;
    pass.kept.branches = {{.all = false, .rows = {0, 4}, .scale = 2.0},
                          {.all = false, .rows = {4, 5}, .scale = 2.0}};
    seam.begin(std::move(pass));
  }
  ResidualSeam::Branch branch(const Tensors& in) const {
    return {[](const at::Tensor& normed) { return normed.tanh(); }, in[3], Norm{in[1], in[2], kEps}};
  }
};

TEST_P(StreamByKernels, IsOverwrittenWhereItIsGivenUp) {
  ResidualSeam seam;
  begin(seam);
  const Tensors in = inputs();
  at::Tensor x = in[0].clone();
  const void* memory = x.const_data_ptr();
  const at::Tensor one = seam.apply(0, std::move(x), branch(in));
  EXPECT_EQ(one.const_data_ptr(), memory);
  const at::Tensor two = seam.apply(1, one, branch(in));
  EXPECT_NE(two.const_data_ptr(), memory) << "somebody still has it";
  EXPECT_TRUE(at::equal(one[5], in[0][5]));
}

TEST_P(StreamByKernels, InBfloat16IsOverwrittenWhereAllRowsAreKeptToo) {
  const AutocastOn scope(device());
  ResidualSeam seam;
  seam.declare({"one", 0, 0.0, {}});
  Pass pass;
  pass.kind = Pass::Kind::kTrain;
  pass.images = 6;
  pass.kept.branches.resize(1);
  seam.begin(std::move(pass));
  Tensors in = inputs();
  in[1].requires_grad_();
  at::Tensor x = in[0].clone();
  const void* memory = x.const_data_ptr();
  EXPECT_EQ(seam.apply(0, std::move(x), branch(in)).const_data_ptr(), memory);
}

TEST_P(StreamByKernels, GivesTheSameGradientsWhereItIsGivenUp) {
  const auto run = [this](bool gives_up) {
    ResidualSeam seam;
    begin(seam);
    Tensors in = inputs();
    for (at::Tensor& value : in) value.requires_grad_();
    at::Tensor x = in[0] * 1.0, one, two;
    if (gives_up) {
      one = seam.apply(0, std::move(x), branch(in));
      two = seam.apply(1, std::move(one), branch(in));
    } else {
      one = seam.apply(0, x, branch(in));
      two = seam.apply(1, one, branch(in));
    }
    (two * numbers(two.sizes(), 9)).sum().backward();
    Tensors found = {two.detach()};
    for (const at::Tensor& value : in) found.push_back(value.grad());
    return found;
  };
  const Tensors kept = run(false), given_up = run(true);
  for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(at::equal(kept[i], given_up[i])) << i;
}

/// A step's logits and gradients of small models, with and without the kernels.
class ModelByKernels : public testing::KernelTest {
 protected:
  Tensors step(Backbone& model, bool drops) const {
    Pass pass;
    pass.kind = Pass::Kind::kTrain;
    pass.images = 4;
    pass.views = 2;
    if (drops) {
      pass.kept = draw_kept_rows(model.seam().branches(), DepthMode::kFixed, 4, 2, 1, 2, 3);
    } else {
      pass.kept.branches.resize(model.seam().branches().size());
    }
    model.seam().begin(pass);
    const std::int64_t side = model.config().image_size;
    const at::Tensor logits = model.forward(numbers({4, 1, side, side}, 3));
    (logits * numbers(logits.sizes(), 4)).sum().backward();
    Tensors found = {logits.detach()};
    for (at::Tensor parameter : model.parameters()) {
      found.push_back(parameter.grad().clone());
      parameter.mutable_grad().reset();
    }
    return found;
  }
};

TEST_P(ModelByKernels, GivesTheSameStepAsWithout) {
  const kernels::Kernels* table = &kernels();
  for (config::ModelConfig config : small_models()) {
    config.drop_rate = 0.5;
    const auto model = create(config, 1);
    model->to(device());
    for (const bool drops : {true, false}) {
      kernels::set_kernels(nullptr);
      const Tensors without = step(*model, drops);
      kernels::set_kernels(table);
      const Tensors with = step(*model, drops);
      const auto names = model->named_parameters().keys();
      for (std::size_t i = 0; i < with.size(); ++i) {
        // Some are 0 but for rounding: a bias of keys, which softmax does not see.
        const double apart = (with[i] - without[i]).norm().item<double>(),
                     size = without[i].norm().item<double>();
        EXPECT_LT(apart, 2e-5 * size + 1e-6)
            << config.name << " " << (i == 0 ? "logits" : names[i - 1]) << (drops ? ", rows drop" : "");
      }
    }
  }
}

COSUB_EMULATED_AND_ON_GPU(BranchRows);
COSUB_EMULATED_AND_ON_GPU(LinearByKernels);
COSUB_EMULATED_AND_ON_GPU(MlpByKernels);
COSUB_EMULATED_AND_ON_GPU(StreamByKernels);
COSUB_EMULATED_AND_ON_GPU(ModelByKernels);

}  // namespace
}  // namespace cosub::model
