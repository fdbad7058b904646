// Some rows of a float matrix: taken out, and added back. `rows`: the matrix's row of each of the part's
// rows, each at most once. Over OpenMP's threads; no LibTorch here.
#pragma once

#include <cstdint>
#include <span>

namespace cosub::model {

/// part[i] = scale * whole[rows[i]], rows of `width` floats.
void take_rows(const float* whole, std::span<const std::int64_t> rows, std::int64_t width, float scale,
               float* part);

/// whole[rows[i]] += part[i]
void add_to_rows(const float* part, std::span<const std::int64_t> rows, std::int64_t width, float* whole);

/// sum = whole, and in its rows also scale * part; `num_rows` in all. `rows` ascending.
void sum_with_rows(const float* whole, std::int64_t num_rows, const float* part,
                   std::span<const std::int64_t> rows, std::int64_t width, float scale, float* sum);

}  // namespace cosub::model
