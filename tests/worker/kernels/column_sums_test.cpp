#include <gtest/gtest.h>

#include "tests/worker/kernels/kernel_rig.h"

namespace cosub::kernels {
namespace {

using testing::distance;

class ColumnSumsTest : public testing::KernelTest {
 protected:
  static at::Tensor exact_sums(const at::Tensor& x) { return x.to(at::kCPU, at::kDouble).sum(0); }
};

TEST_P(ColumnSumsTest, AreThoseOfFloat64) {
  for (const testing::MatrixShape& shape : testing::kMatrixShapes) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const at::Tensor x = numbers({shape.lines, shape.channels}, 1, dtype),
                       sums = at::full({shape.channels}, NAN, floats()),
                       between = scratch(shape.lines, shape.channels, 1);
      ColumnSums a;
      a.lines = shape.lines;
      a.channels = shape.channels;
      a.type = testing::dtype_of(dtype);
      a.x = x.const_data_ptr();
      a.sums = sums.mutable_data_ptr<float>();
      a.scratch = between.mutable_data_ptr<float>();
      in_any_order(sums, [&] { kernels().column_sums(a, nullptr); });
      EXPECT_LT(distance(sums, exact_sums(x)), 5e-5) << shape.lines << " x " << shape.channels;
    }
  }
}

TEST_P(ColumnSumsTest, ThreeTensorsLieSideBySideAndAreSummed) {
  for (const testing::MatrixShape& shape : testing::kMatrixShapes) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      std::vector<at::Tensor> parts;
      for (std::int64_t i = 0; i < 3; ++i) parts.push_back(numbers({shape.lines, shape.channels}, i, dtype));
      const at::Tensor joined = at::full({shape.lines, 3, shape.channels}, NAN, floats().dtype(dtype)),
                       sums = at::full({3 * shape.channels}, NAN, floats()),
                       between = scratch(shape.lines, 3 * shape.channels, 1);
      JoinColumns a;
      a.lines = shape.lines;
      a.channels = shape.channels;
      a.type = testing::dtype_of(dtype);
      for (std::size_t i = 0; i < 3; ++i) a.parts[i] = parts[i].const_data_ptr();
      a.joined = joined.mutable_data_ptr();
      a.sums = sums.mutable_data_ptr<float>();
      a.scratch = between.mutable_data_ptr<float>();
      in_any_order(sums, [&] { kernels().join_columns(a, nullptr); });
      const at::Tensor wanted = at::stack(parts, 1);
      EXPECT_TRUE(at::equal(joined, wanted)) << shape.lines << " x " << shape.channels;
      EXPECT_LT(distance(sums, exact_sums(wanted).flatten()), 5e-5) << shape.lines << " x " << shape.channels;
      joined.fill_(NAN);
      a.sums = nullptr;
      kernels().join_columns(a, nullptr);
      EXPECT_TRUE(at::equal(joined, wanted)) << "without sums";
    }
  }
}

COSUB_EMULATED_AND_ON_GPU(ColumnSumsTest);

}  // namespace
}  // namespace cosub::kernels
