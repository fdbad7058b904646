// Some rows of a float tensor [rows, positions, channels]: taken out, and added back. `rows`: the whole's row
// of each of the part's rows, each at most once. Over OpenMP's threads, with the same bits for any number of
// them; no LibTorch here.
#pragma once

#include <cstdint>
#include <span>

namespace cosub::model {

struct RowShape {
  std::int64_t positions = 1, channels = 1;  // of a row
  std::int64_t width() const { return positions * channels; }
};

/// part[i] = whole[rows[i]]
void take_rows(const float* whole, std::span<const std::int64_t> rows, RowShape shape, float* part);

/// whole[rows[i]] += part[i]
void add_to_rows(const float* part, std::span<const std::int64_t> rows, RowShape shape, float* whole);

/// sum = whole, and in its rows also factor * part; `num_rows` in all. factor: one per channel.
void sum_with_rows(const float* whole, std::int64_t num_rows, const float* part,
                   std::span<const std::int64_t> rows, RowShape shape, const float* factor, float* sum);

/// Backwards: d_part[i] = factor * d_sum[rows[i]]; d_factor (may be null): the sums of part * d_sum[rows].
void sum_with_rows_backward(const float* d_sum, const float* part, std::span<const std::int64_t> rows,
                            RowShape shape, const float* factor, float* d_part, float* d_factor);

}  // namespace cosub::model
