// The sum of a float vector's squares, in double. Over OpenMP's threads, in pieces of a fixed size, so that
// the bits do not depend on their number. No LibTorch here.
#pragma once

#include <cstdint>

namespace cosub::train {

double sum_of_squares(const float* values, std::int64_t size);

}  // namespace cosub::train
