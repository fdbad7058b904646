// Loops over the rows of a matrix by OpenMP's threads, in chunks that do not depend on the number of threads,
// and the sums of columns that come with them: short runs in float, folded into double.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace cosub::model {

constexpr std::int64_t kRunRows = 16;  // added up in float

/// body(chunk, first row, last row + 1)
template <typename Body>
void for_each_row_chunk(std::int64_t rows, std::int64_t chunk_rows, const Body& body) {
  const std::int64_t chunks = (rows + chunk_rows - 1) / chunk_rows;
#pragma omp parallel for if (chunks > 1)
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk)
    body(chunk, chunk * chunk_rows, std::min(rows, (chunk + 1) * chunk_rows));
}

/// Sums of what add_row(row, run) adds to run[0, width): chunk by chunk, then the chunks in order.
template <typename AddRow>
std::vector<double> column_sums(std::int64_t rows, std::int64_t chunk_rows, std::int64_t width,
                                const AddRow& add_row) {
  const auto size = static_cast<std::size_t>(width);
  std::vector<double> partial(static_cast<std::size_t>((rows + chunk_rows - 1) / chunk_rows) * size, 0.0);
  for_each_row_chunk(rows, chunk_rows, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
    double* __restrict sums = partial.data() + chunk * width;
    std::vector<float> run_storage(size);
    float* __restrict run = run_storage.data();
    for (std::int64_t first = begin; first < end; first += kRunRows) {
      std::fill_n(run, width, 0.0F);
      for (std::int64_t row = first; row < std::min(end, first + kRunRows); ++row) add_row(row, run);
      for (std::int64_t c = 0; c < width; ++c) sums[c] += static_cast<double>(run[c]);
    }
  });
  std::vector<double> total(size, 0.0);
  for (std::size_t i = 0; i < partial.size(); ++i) total[i % size] += partial[i];
  return total;
}

}  // namespace cosub::model
