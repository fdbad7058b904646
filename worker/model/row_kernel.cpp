#include "worker/model/row_kernel.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/vector_clones.h"

namespace cosub::model {
namespace {

constexpr std::int64_t kChunk = 1 << 13;  // floats; a row is cut so that few rows keep all threads busy

COSUB_VECTOR_CLONES void scale_chunk(const float* from, float scale, std::int64_t size, float* to) {
  for (std::int64_t i = 0; i < size; ++i) to[i] = scale * from[i];
}

COSUB_VECTOR_CLONES void add_chunk(const float* from, std::int64_t size, float* to) {
  for (std::int64_t i = 0; i < size; ++i) to[i] += from[i];
}

COSUB_VECTOR_CLONES void sum_chunk(const float* whole, const float* part, float scale, std::int64_t size,
                                   float* sum) {
  for (std::int64_t i = 0; i < size; ++i) sum[i] = whole[i] + scale * part[i];
}

/// body(row, begin within the row, number of floats)
template <typename Body>
void for_each_chunk(std::int64_t num_rows, std::int64_t width, const Body& body) {
  const std::int64_t chunks = (width + kChunk - 1) / kChunk, total = num_rows * chunks;
#pragma omp parallel for if (total > 1)
  for (std::int64_t i = 0; i < total; ++i) {
    const std::int64_t begin = i % chunks * kChunk;
    body(i / chunks, begin, std::min(kChunk, width - begin));
  }
}

}  // namespace

void take_rows(const float* whole, std::span<const std::int64_t> rows, std::int64_t width, float scale,
               float* part) {
  for_each_chunk(static_cast<std::int64_t>(rows.size()), width, [&](auto row, auto begin, auto size) {
    const float* from = whole + rows[static_cast<std::size_t>(row)] * width + begin;
    scale_chunk(from, scale, size, part + row * width + begin);
  });
}

void add_to_rows(const float* part, std::span<const std::int64_t> rows, std::int64_t width, float* whole) {
  for_each_chunk(static_cast<std::int64_t>(rows.size()), width, [&](auto row, auto begin, auto size) {
    float* to = whole + rows[static_cast<std::size_t>(row)] * width + begin;
    add_chunk(part + row * width + begin, size, to);
  });
}

void sum_with_rows(const float* whole, std::int64_t num_rows, const float* part,
                   std::span<const std::int64_t> rows, std::int64_t width, float scale, float* sum) {
  std::vector<std::int64_t> part_of(static_cast<std::size_t>(num_rows), -1);
  for (std::size_t i = 0; i < rows.size(); ++i)
    part_of[static_cast<std::size_t>(rows[i])] = static_cast<std::int64_t>(i);
  for_each_chunk(num_rows, width, [&](auto row, auto begin, auto size) {
    const std::int64_t at = row * width + begin, own = part_of[static_cast<std::size_t>(row)];
    if (own < 0)
      std::memcpy(sum + at, whole + at, static_cast<std::size_t>(size) * sizeof(float));
    else
      sum_chunk(whole + at, part + own * width + begin, scale, size, sum + at);
  });
}

}  // namespace cosub::model
