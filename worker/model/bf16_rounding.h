// float32 numbers rounded to those that bfloat16 has (to nearest, ties to even, as c10::BFloat16), kept as
// float32. Plain loops over OpenMP's threads; no LibTorch here.
#pragma once

#include <cstdint>

namespace cosub::model {

/// to[i] = from[i] rounded; the two may be the same. NaN stays NaN.
void round_to_bf16(const float* from, float* to, std::int64_t size);

}  // namespace cosub::model
