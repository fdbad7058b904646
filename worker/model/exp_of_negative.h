// e^x for the softmax and for GELU, as a loop over it becomes vector code. No LibTorch here.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace cosub::model {

/// e^x for x <= 0, to 2e-7 of its value; 0 below -87.
inline float exp_of_negative(float x) {
  constexpr float kLog2E = 1.44269504F, kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: added, it leaves a whole number in the low bits
  const float clamped = std::max(x, -87.0F);
  const float shifted = clamped * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;  // in [-ln 2 / 2, ln 2 / 2]
  // Taylor's series to r^7, whose error is below 6e-9 there.
  float sum = 1.0F / 5040;
  sum = sum * r + 1.0F / 720;
  sum = sum * r + 1.0F / 120;
  sum = sum * r + 1.0F / 24;
  sum = sum * r + 1.0F / 6;
  sum = sum * r + 0.5F;
  sum = sum * r + 1.0F;
  sum = sum * r + 1.0F;
  const std::uint32_t exponent =
      (std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(kRound)) << 23;
  const float value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(sum) + exponent);
  return x < -87.0F ? 0.0F : value + (x - x);  // which keeps NaN
}

}  // namespace cosub::model
