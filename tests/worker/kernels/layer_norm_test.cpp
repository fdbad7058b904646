#include <gtest/gtest.h>

#include "tests/worker/kernels/kernel_rig.h"

namespace cosub::kernels {
namespace {

using testing::distance;
using Rows = std::vector<std::int64_t>;

constexpr double kEps = 1e-6;

/// Of one shape: what the kernels gave and what float64 gives.
struct NormCase {
  std::int64_t num_rows, positions, channels;
  Rows rows;
  bool all = false;
};
const std::vector<NormCase> kNormCases = {
    {3, 1, 192, {1}},      {5, 7, 384, {4, 0, 3}}, {2, 3, 1000, {0, 1}},   {2, 9, 2048, {1}},
    {40, 5, 96, {}, true}, {4, 2, 30, {2, 1}},     {3, 70, 33, {0, 2}},    {3, 5, 192, {}},
    {6, 3, 384, {}, true}, {1, 1, 1, {0}},         {300, 3, 8, {}, true},  {3, 15, 256, {2, 0}},
    {2, 14, 768, {1}},     {3, 9, 1280, {0, 2}},   {2, 5, 1536, {}, true},
};

class LayerNormTest : public testing::KernelTest {
 protected:
  struct Values {
    at::Tensor x, weight, bias, rows, y, mean, rstd, normed;
  };

  Values forward(const NormCase& shape, at::ScalarType dtype) const {
    Values v;
    v.x = numbers({shape.num_rows, shape.positions, shape.channels}, 1) + 3.0;
    v.weight = numbers({shape.channels}, 2) + 1.0;
    v.bias = numbers({shape.channels}, 3);
    if (!shape.all) v.rows = rows(shape.rows);
    const std::int64_t kept = shape.all ? shape.num_rows : v.rows.numel();
    v.y = at::empty({kept, shape.positions, shape.channels}, floats().dtype(dtype));
    v.mean = at::empty({kept * shape.positions}, floats());
    v.rstd = at::empty_like(v.mean);
    LayerNorm a;
    a.part = part_of(v);
    a.x = v.x.const_data_ptr<float>();
    a.weight = v.weight.const_data_ptr<float>();
    a.bias = v.bias.const_data_ptr<float>();
    a.eps = static_cast<float>(kEps);
    a.y = v.y.mutable_data_ptr();
    a.y_type = testing::dtype_of(dtype);
    a.mean = v.mean.mutable_data_ptr<float>();
    a.rstd = v.rstd.mutable_data_ptr<float>();
    v.normed = at::empty_like(v.y);
    a.normed = v.normed.mutable_data_ptr();
    in_any_order(v.y, [&] { kernels().layer_norm(a, nullptr); });
    return v;
  }

  struct Gradients {
    at::Tensor d_x, d_weight, d_bias;
  };
  Gradients backward(const Values& v, const at::Tensor& d_y, const at::Tensor& d_x_before, bool adds,
                     bool from_normed = false) const {
    const std::int64_t lines = v.mean.numel(), channels = v.weight.numel();
    Gradients found{d_x_before.clone(), at::empty_like(v.weight), at::empty_like(v.weight)};
    const at::Tensor sums = scratch(lines, channels, 2);
    LayerNormBackward a;
    a.part = part_of(v);
    a.weight = v.weight.const_data_ptr<float>();
    if (from_normed) {
      a.normed = v.normed.const_data_ptr();
    } else {
      a.x = v.x.const_data_ptr<float>();
      a.mean = v.mean.const_data_ptr<float>();
    }
    a.rstd = v.rstd.const_data_ptr<float>();
    a.d_y = d_y.const_data_ptr();
    a.y_type = testing::dtype_of(d_y.scalar_type());
    a.d_x = found.d_x.mutable_data_ptr<float>();
    a.adds = adds;
    a.d_weight = found.d_weight.mutable_data_ptr<float>();
    a.d_bias = found.d_bias.mutable_data_ptr<float>();
    a.scratch = sums.mutable_data_ptr<float>();
    in_any_order(found.d_weight, [&] {
      found.d_x.copy_(d_x_before);
      kernels().layer_norm_backward(a, nullptr);
    });
    return found;
  }

  static RowPart part_of(const Values& v) {
    RowPart part;
    part.rows = v.rows.defined() ? v.rows.const_data_ptr<std::int64_t>() : nullptr;
    part.num_rows = v.y.size(0);
    part.positions = v.x.size(1);
    part.channels = v.x.size(2);
    return part;
  }

  struct Exact {
    at::Tensor x, weight, bias, y;  // float64, on the CPU, in a graph
  };
  static Exact exact(const Values& v) {
    Exact e;
    const auto leaf = [](const at::Tensor& t) { return t.to(at::kCPU, at::kDouble).requires_grad_(); };
    e.x = leaf(v.x);
    e.weight = leaf(v.weight);
    e.bias = leaf(v.bias);
    const at::Tensor part = v.rows.defined() ? e.x.index_select(0, v.rows.cpu()) : e.x;
    e.y = at::layer_norm(part, {v.weight.numel()}, e.weight, e.bias, kEps);
    return e;
  }
};

TEST_P(LayerNormTest, ForwardIsThatOfFloat64) {
  for (const NormCase& shape : kNormCases) {
    EXPECT_LT(distance(forward(shape, at::kFloat).y, exact(forward(shape, at::kFloat)).y), 2e-6);
    const Values v = forward(shape, at::kBFloat16);
    EXPECT_LT(distance(v.y, exact(v).y.detach().to(at::kBFloat16)), 3e-4) << "rounded once, to the nearest";
  }
}

TEST_P(LayerNormTest, GradientsAreThoseOfFloat64) {
  for (const NormCase& shape : kNormCases) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const Values v = forward(shape, dtype);
      const at::Tensor d_y = numbers(v.y.sizes(), 4, dtype), zeros = at::zeros_like(v.x);
      const Gradients found = backward(v, d_y, zeros, /*adds=*/false);
      Exact e = exact(v);
      e.y.backward(d_y.to(at::kCPU, at::kDouble));
      if (shape.channels > 1) {  // otherwise both are 0
        EXPECT_LT(distance(found.d_x, e.x.grad()), 3e-6) << shape.channels;
        EXPECT_LT(distance(found.d_weight, e.weight.grad()), 1e-5) << shape.channels;
      }
      EXPECT_LT(distance(found.d_bias, e.bias.grad()), 1e-5) << shape.channels;
    }
  }
}

TEST_P(LayerNormTest, GradientIsAddedInPlaceToTheKeptRowsOnly) {
  const NormCase shape = {5, 7, 384, {4, 0, 3}};
  const Values v = forward(shape, at::kFloat);
  const at::Tensor d_y = numbers(v.y.sizes(), 4), before = numbers(v.x.sizes(), 5);
  const Gradients alone = backward(v, d_y, at::zeros_like(v.x), false),
                  added = backward(v, d_y, before, true);
  EXPECT_LT(distance(added.d_x, alone.d_x + before), 1e-6);
  for (const std::int64_t row : {1, 2}) EXPECT_TRUE(at::equal(added.d_x[row], before[row])) << row;
}

TEST_P(LayerNormTest, TheNormalisedRowsServeTheGradientAsWell) {
  for (const NormCase& shape : kNormCases) {
    const Values v = forward(shape, at::kFloat);
    const at::Tensor d_y = numbers(v.y.sizes(), 4), before = numbers(v.x.sizes(), 5);
    const Gradients from_x = backward(v, d_y, before, true), found = backward(v, d_y, before, true, true);
    EXPECT_LT(distance(found.d_x, from_x.d_x), 1e-6) << shape.channels;
    EXPECT_LE((found.d_weight - from_x.d_weight).norm().item<float>(),
              1e-6 * from_x.d_weight.norm().item<float>())
        << shape.channels;
  }
}

TEST_P(LayerNormTest, TheNormalisedRowsInBfloat16ErrNoMoreThanTheirGradientDoes) {
  for (const NormCase& shape : kNormCases) {
    if (shape.channels == 1) continue;  // there d_weight is 0
    const Values wide = forward(shape, at::kFloat), v = forward(shape, at::kBFloat16);
    EXPECT_TRUE(at::equal(v.normed, wide.normed.to(at::kBFloat16))) << shape.channels;
    const at::Tensor d_y = numbers(v.y.sizes(), 4), rounded = d_y.to(at::kBFloat16),
                     zeros = at::zeros_like(v.x);
    const Gradients exact = backward(wide, d_y, zeros, false), from_x = backward(v, rounded, zeros, false),
                    found = backward(v, rounded, zeros, false, true);
    EXPECT_LE(distance(found.d_x, from_x.d_x), distance(from_x.d_x, exact.d_x)) << shape.channels;
    EXPECT_LE(distance(found.d_weight, from_x.d_weight), 1.5 * distance(from_x.d_weight, exact.d_weight))
        << shape.channels;
  }
}

TEST_P(LayerNormTest, WithoutGradientsOfItsParametersGivesThatOfItsInput) {
  const Values v = forward({4, 3, 96, {1, 3}}, at::kFloat);
  const at::Tensor d_y = numbers(v.y.sizes(), 4), d_x = at::zeros_like(v.x);
  LayerNormBackward a;
  a.part = part_of(v);
  a.x = v.x.const_data_ptr<float>();
  a.weight = v.weight.const_data_ptr<float>();
  a.mean = v.mean.const_data_ptr<float>();
  a.rstd = v.rstd.const_data_ptr<float>();
  a.d_y = d_y.const_data_ptr();
  a.d_x = d_x.mutable_data_ptr<float>();
  kernels().layer_norm_backward(a, nullptr);
  EXPECT_TRUE(at::equal(d_x, backward(v, d_y, at::zeros_like(v.x), false).d_x));
}

COSUB_EMULATED_AND_ON_GPU(LayerNormTest);

}  // namespace
}  // namespace cosub::kernels
