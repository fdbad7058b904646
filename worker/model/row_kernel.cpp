#include "worker/model/row_kernel.h"

#include <cstring>
#include <vector>

#include "common/vector_clones.h"
#include "worker/model/row_chunks.h"

namespace cosub::model {
namespace {

constexpr std::int64_t kChunk =
    1 << 13;  // floats of a task, at least a position: few rows keep all threads busy

COSUB_VECTOR_CLONES void add_chunk(const float* from, std::int64_t size, float* to) {
  for (std::int64_t i = 0; i < size; ++i) to[i] += from[i];
}

COSUB_VECTOR_CLONES void sum_position(const float* whole, const float* part, const float* factor,
                                      std::int64_t channels, float* __restrict sum) {
  for (std::int64_t c = 0; c < channels; ++c) sum[c] = whole[c] + factor[c] * part[c];
}

COSUB_VECTOR_CLONES void scale_position(const float* from, const float* factor, std::int64_t channels,
                                        float* __restrict to) {
  for (std::int64_t c = 0; c < channels; ++c) to[c] = factor[c] * from[c];
}

COSUB_VECTOR_CLONES void sum_position_backward(const float* d_sum, const float* part, const float* factor,
                                               std::int64_t channels, float* __restrict d_part,
                                               float* __restrict products) {
  for (std::int64_t c = 0; c < channels; ++c) {
    d_part[c] = factor[c] * d_sum[c];
    products[c] += part[c] * d_sum[c];
  }
}

std::int64_t chunk_positions(RowShape shape) {
  return std::max<std::int64_t>(1, kChunk / std::max<std::int64_t>(1, shape.channels));
}

/// body(row, begin within the row, number of floats), whole positions
template <typename Body>
void for_each_chunk(std::int64_t num_rows, RowShape shape, const Body& body) {
  const std::int64_t step = chunk_positions(shape), chunks = (shape.positions + step - 1) / step;
  for_each_row_chunk(num_rows * chunks, 1, [&](std::int64_t i, std::int64_t, std::int64_t) {
    const std::int64_t first = i % chunks * step, positions = std::min(step, shape.positions - first);
    body(i / chunks, first * shape.channels, positions * shape.channels);
  });
}

}  // namespace

void take_rows(const float* whole, std::span<const std::int64_t> rows, RowShape shape, float* part) {
  for_each_chunk(static_cast<std::int64_t>(rows.size()), shape, [&](auto row, auto begin, auto size) {
    std::memcpy(part + row * shape.width() + begin,
                whole + rows[static_cast<std::size_t>(row)] * shape.width() + begin,
                static_cast<std::size_t>(size) * sizeof(float));
  });
}

void add_to_rows(const float* part, std::span<const std::int64_t> rows, RowShape shape, float* whole) {
  for_each_chunk(static_cast<std::int64_t>(rows.size()), shape, [&](auto row, auto begin, auto size) {
    add_chunk(part + row * shape.width() + begin, size,
              whole + rows[static_cast<std::size_t>(row)] * shape.width() + begin);
  });
}

void sum_with_rows(const float* whole, std::int64_t num_rows, const float* part,
                   std::span<const std::int64_t> rows, RowShape shape, const float* factor, float* sum) {
  std::vector<std::int64_t> part_of(static_cast<std::size_t>(num_rows), -1);
  for (std::size_t i = 0; i < rows.size(); ++i)
    part_of[static_cast<std::size_t>(rows[i])] = static_cast<std::int64_t>(i);
  for_each_chunk(num_rows, shape, [&](auto row, auto begin, auto size) {
    const std::int64_t at = row * shape.width() + begin, own = part_of[static_cast<std::size_t>(row)];
    if (own < 0) {
      std::memcpy(sum + at, whole + at, static_cast<std::size_t>(size) * sizeof(float));
      return;
    }
    const float* of_part = part + own * shape.width() + begin;
    for (std::int64_t c = 0; c < size; c += shape.channels)
      sum_position(whole + at + c, of_part + c, factor, shape.channels, sum + at + c);
  });
}

void sum_with_rows_backward(const float* d_sum, const float* part, std::span<const std::int64_t> rows,
                            RowShape shape, const float* factor, float* d_part, float* d_factor) {
  const auto d_sum_at = [&](std::int64_t row, std::int64_t position) {
    return d_sum + rows[static_cast<std::size_t>(row)] * shape.width() + position * shape.channels;
  };
  const auto num_rows = static_cast<std::int64_t>(rows.size());
  if (d_factor == nullptr) {
    for_each_chunk(num_rows, shape, [&](auto row, auto begin, auto size) {
      float* of_part = d_part + row * shape.width() + begin;
      for (std::int64_t c = 0; c < size; c += shape.channels)
        scale_position(d_sum_at(row, (begin + c) / shape.channels), factor, shape.channels, of_part + c);
    });
    return;
  }
  const std::vector<double> sums = column_sums(
      num_rows * shape.positions, chunk_positions(shape), shape.channels,
      [&](std::int64_t i, float* products) {
        sum_position_backward(d_sum_at(i / shape.positions, i % shape.positions), part + i * shape.channels,
                              factor, shape.channels, d_part + i * shape.channels, products);
      });
  for (std::int64_t c = 0; c < shape.channels; ++c)
    d_factor[c] = static_cast<float>(sums[static_cast<std::size_t>(c)]);
}

}  // namespace cosub::model
