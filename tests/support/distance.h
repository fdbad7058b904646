// How far tensors are apart, for tests that compare with a reference.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cosub::testing {

/// |a - b| / |b|, L2, in float64 on the CPU; 0 where both are empty, infinite where a number is none.
inline double distance(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  if (a.numel() == 0) return 0;
  const at::Tensor wide = b.to(at::kCPU, at::kDouble), difference = a.to(at::kCPU, at::kDouble) - wide;
  const double length = wide.norm().item<double>();
  const double found = difference.norm().item<double>() / (length > 0 ? length : 1);
  return std::isnan(found) ? INFINITY : found;
}

}  // namespace cosub::testing
