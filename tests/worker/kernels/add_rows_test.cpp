#include <gtest/gtest.h>

#include "tests/worker/kernels/kernel_rig.h"

namespace cosub::kernels {
namespace {

using testing::distance;
using Rows = std::vector<std::int64_t>;

constexpr double kScale = 1.75;

struct Case {
  std::int64_t num_rows, positions, channels;
  Rows rows;
  bool all = false;
};
const std::vector<Case> kCases = {{3, 1, 192, {1}},      {5, 7, 384, {4, 0, 3}}, {2, 40, 1000, {1}},
                                  {4, 2, 30, {2, 1}},    {3, 5, 192, {}},        {6, 3, 384, {}, true},
                                  {400, 1, 3, {}, true}, {3, 9, 2052, {2, 0}}};

class AddRowsTest : public testing::KernelTest {
 protected:
  struct Values {
    at::Tensor whole, rows, part, gamma, sum;
  };

  Values forward(const Case& shape, at::ScalarType dtype, bool has_gamma = true) const {
    Values v;
    v.whole = numbers({shape.num_rows, shape.positions, shape.channels}, 1);
    if (!shape.all) v.rows = rows(shape.rows);
    const std::int64_t kept = shape.all ? shape.num_rows : v.rows.numel();
    v.part = numbers({kept, shape.positions, shape.channels}, 2, dtype);
    if (has_gamma) v.gamma = numbers({shape.channels}, 3);
    v.sum = at::full_like(v.whole, NAN);
    const AddRows a = arguments(v);
    in_any_order(v.sum, [&] { kernels().add_rows(a, nullptr); });
    return v;
  }

  static AddRows arguments(const Values& v) {
    AddRows a;
    a.part = part_of(v);
    a.whole_rows = v.whole.size(0);
    a.whole = v.whole.const_data_ptr<float>();
    a.gamma = v.gamma.defined() ? v.gamma.const_data_ptr<float>() : nullptr;
    a.scale = static_cast<float>(kScale);
    a.addend = v.part.const_data_ptr();
    a.addend_type = testing::dtype_of(v.part.scalar_type());
    a.sum = v.sum.mutable_data_ptr<float>();
    return a;
  }

  static RowPart part_of(const Values& v) {
    RowPart part;
    part.rows = v.rows.defined() ? v.rows.const_data_ptr<std::int64_t>() : nullptr;
    part.num_rows = v.part.size(0);
    part.positions = v.whole.size(1);
    part.channels = v.whole.size(2);
    return part;
  }

  struct Exact {
    at::Tensor part, gamma, sum;
  };
  static Exact exact(const Values& v) {
    Exact e;
    e.part = v.part.to(at::kCPU, at::kDouble).requires_grad_();
    e.gamma = (v.gamma.defined() ? v.gamma : at::ones({v.whole.size(2)}))
                  .to(at::kCPU, at::kDouble)
                  .requires_grad_();
    const at::Tensor whole = v.whole.to(at::kCPU, at::kDouble);
    const at::Tensor index = v.rows.defined() ? v.rows.cpu() : at::arange(v.whole.size(0), at::kLong);
    e.sum = whole.index_add(0, index, e.part * e.gamma, kScale);
    return e;
  }
};

TEST_P(AddRowsTest, SumIsThatOfFloat64AndOtherRowsAreCopied) {
  for (const Case& shape : kCases) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      for (const bool has_gamma : {true, false}) {
        const Values v = forward(shape, dtype, has_gamma);
        EXPECT_LT(distance(v.sum, exact(v).sum), 1e-6) << shape.channels;
      }
    }
  }
  const Values v = forward(kCases[1], at::kFloat);
  for (const std::int64_t row : {1, 2}) EXPECT_TRUE(at::equal(v.sum[row], v.whole[row])) << row;
}

TEST_P(AddRowsTest, InPlaceGivesTheSameBits) {
  for (const Case& shape : kCases) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      for (const bool has_gamma : {true, false}) {
        const Values v = forward(shape, dtype, has_gamma);
        const at::Tensor memory = v.whole.clone();
        AddRows a = arguments(v);
        a.whole = memory.const_data_ptr<float>();
        a.sum = memory.mutable_data_ptr<float>();
        in_any_order(memory, [&] {
          memory.copy_(v.whole);
          kernels().add_rows(a, nullptr);
        });
        EXPECT_TRUE(at::equal(memory, v.sum)) << shape.channels;
      }
    }
  }
}

TEST_P(AddRowsTest, GradientsAreThoseOfFloat64) {
  for (const Case& shape : kCases) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      for (const bool wants_gamma : {true, false}) {
        const Values v = forward(shape, dtype);
        const at::Tensor d_sum = numbers(v.whole.sizes(), 4), d_part = at::empty_like(v.part),
                         d_gamma = at::empty_like(v.gamma);
        const at::Tensor sums = scratch(v.part.size(0) * shape.positions, shape.channels, 1);
        AddRowsBackward a;
        a.part = part_of(v);
        a.d_sum = d_sum.const_data_ptr<float>();
        a.gamma = v.gamma.const_data_ptr<float>();
        a.scale = static_cast<float>(kScale);
        a.addend_type = testing::dtype_of(dtype);
        a.d_addend = d_part.mutable_data_ptr();
        if (wants_gamma) {
          a.addend = v.part.const_data_ptr();
          a.d_gamma = d_gamma.mutable_data_ptr<float>();
          a.scratch = sums.mutable_data_ptr<float>();
        }
        in_any_order(wants_gamma ? d_gamma : d_part, [&] { kernels().add_rows_backward(a, nullptr); });
        Exact e = exact(v);
        e.sum.backward(d_sum.to(at::kCPU, at::kDouble));
        EXPECT_LT(distance(d_part, e.part.grad().to(dtype)), dtype == at::kFloat ? 1e-6 : 3e-4);
        if (wants_gamma) {
          EXPECT_LT(distance(d_gamma, e.gamma.grad()), 1e-5) << shape.channels;
        }
      }
    }
  }
}

COSUB_EMULATED_AND_ON_GPU(AddRowsTest);

}  // namespace
}  // namespace cosub::kernels
