// A branch's result, times LayerScale (arXiv 2103.17239) and the branch's scale, added to some rows.
#pragma once

#include "worker/kernels/columns.cuh"

namespace cosub::kernels {

constexpr int kAddThreads = 256;
constexpr std::int64_t kAddFloats = 16'384;  // about what a block takes of a row, in whole lines

/// values += scale * gamma * addend, of pack number `pack` of a line.
template <class T, int kWidth>
__device__ __forceinline__ void add_pack(const AddRows& a, const T* addend, unsigned pack,
                                         Pack<kWidth>& values) {
  const Pack<kWidth> more = load<kWidth>(addend);
  Pack<kWidth> gamma;
  for (int j = 0; j < kWidth; ++j) gamma.at[j] = 1;
  if (a.gamma != nullptr) gamma = load<kWidth>(a.gamma + pack * kWidth);
  for (int j = 0; j < kWidth; ++j) values.at[j] += a.scale * gamma.at[j] * more.at[j];
}

/// A block for a chunk of lines of one row of the whole: it looks up whether, and as which row of the part,
/// that row is kept, so that one pass does for all.
template <class T, int kWidth>
__global__ void add_rows_kernel(AddRows a, unsigned chunks, unsigned lines_of_chunk) {
  __shared__ std::int64_t found;
  const RowPart& part = a.part;
  const std::int64_t row = blockIdx.x / chunks, first_line = blockIdx.x % chunks * lines_of_chunk;
  if (threadIdx.x == 0) found = part.rows == nullptr && row < part.num_rows ? row : -1;
  __syncthreads();
  if (part.rows != nullptr) {
    for (std::int64_t i = threadIdx.x; i < part.num_rows; i += kAddThreads)
      if (part.rows[i] == row) found = i;
  }
  __syncthreads();
  const std::int64_t kept = found;
  const auto packs = static_cast<unsigned>(part.channels / kWidth);
  const std::int64_t left = part.positions - first_line;
  const unsigned count = (left < lines_of_chunk ? static_cast<unsigned>(left) : lines_of_chunk) * packs;
  const float* whole = a.whole + (row * part.positions + first_line) * part.channels;
  float* sum = a.sum + (row * part.positions + first_line) * part.channels;
  const std::int64_t begin_of_part = (kept * part.positions + first_line) * part.channels;  // where kept >= 0
  for (unsigned i = threadIdx.x; i < count; i += kAddThreads) {
    const std::int64_t at = static_cast<std::int64_t>(i) * kWidth;
    Pack<kWidth> values = load<kWidth>(whole + at);
    if (kept >= 0) add_pack(a, static_cast<const T*>(a.addend) + begin_of_part + at, i % packs, values);
    store(values, sum + at);
  }
}

/// In place: a block for a chunk of lines of a kept row.
template <class T, int kWidth>
__global__ void add_rows_in_place(AddRows a, unsigned chunks, unsigned lines_of_chunk) {
  const RowPart& part = a.part;
  const std::int64_t kept = blockIdx.x / chunks, first_line = blockIdx.x % chunks * lines_of_chunk;
  const std::int64_t row = part.rows == nullptr ? kept : part.rows[kept];
  const auto packs = static_cast<unsigned>(part.channels / kWidth);
  const std::int64_t left = part.positions - first_line;
  const unsigned count = (left < lines_of_chunk ? static_cast<unsigned>(left) : lines_of_chunk) * packs;
  float* sum = a.sum + (row * part.positions + first_line) * part.channels;
  const T* addend = static_cast<const T*>(a.addend) + (kept * part.positions + first_line) * part.channels;
  for (unsigned i = threadIdx.x; i < count; i += kAddThreads) {
    const std::int64_t at = static_cast<std::int64_t>(i) * kWidth;
    Pack<kWidth> values = load<kWidth>(sum + at);
    add_pack(a, addend + at, i % packs, values);
    store(values, sum + at);
  }
}

template <class T, int kWidth>
struct AddRowsColumns {
  static constexpr int kLinesAtOnce = 2;
  struct In {
    Pack<kWidth> d, addend;
  };
  AddRowsBackward a;
  Pack<kWidth> factor;

  __device__ __forceinline__ void begin(std::int64_t column) {
    for (int i = 0; i < kWidth; ++i) factor.at[i] = 1;
    if (a.gamma != nullptr) factor = load<kWidth>(a.gamma + column);
    for (int i = 0; i < kWidth; ++i) factor.at[i] *= a.scale;
  }
  __device__ __forceinline__ In read(std::int64_t line, std::int64_t column) const {
    const std::int64_t channels = a.part.channels;
    In in = {load<kWidth>(a.d_sum + line_of_whole(a.part, line) * channels + column), {}};
    if (a.addend != nullptr)
      in.addend = load<kWidth>(static_cast<const T*>(a.addend) + line * channels + column);
    return in;
  }
  __device__ __forceinline__ void use(In in, std::int64_t line, std::int64_t column,
                                      float (&sums)[kWidth]) const {
    for (int i = 0; i < kWidth; ++i) {
      sums[i] += a.scale * in.d.at[i] * in.addend.at[i];
      in.d.at[i] *= factor.at[i];
    }
    store(in.d, static_cast<T*>(a.d_addend) + line * a.part.channels + column);
  }
};

inline void run_add_rows(const AddRows& a, Stream stream) {
  const RowPart& part = a.part;
  const bool four = part.channels % 4 == 0 && aligned_for_4(a.whole, a.gamma, a.addend, a.sum);
  const std::int64_t lines = kAddFloats / part.channels < 1 ? 1 : kAddFloats / part.channels;
  const std::int64_t chunks = (part.positions + lines - 1) / lines;
  const bool in_place = a.sum == a.whole;
  with_type(a.addend_type, [&](auto type) {
    with_width(four, [&](auto width) {
      using T = decltype(type);
      constexpr int kWidth = decltype(width)::value;
      launch("add_rows", in_place ? add_rows_in_place<T, kWidth> : add_rows_kernel<T, kWidth>,
             {(in_place ? part.num_rows : a.whole_rows) * chunks, 1}, {kAddThreads, 1}, stream, a,
             static_cast<unsigned>(chunks), static_cast<unsigned>(lines));
    });
  });
}

inline void run_add_rows_backward(const AddRowsBackward& a, Stream stream) {
  const bool four = a.part.channels % 4 == 0 && aligned_for_4(a.d_sum, a.gamma, a.addend, a.d_addend);
  with_type(a.addend_type, [&](auto type) {
    with_width(four, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      run_columns<kWidth>("add_rows_backward", AddRowsColumns<decltype(type), kWidth>{a, {}},
                          a.part.num_rows * a.part.positions, a.part.channels, a.scratch, stream, a.d_gamma);
    });
  });
}

}  // namespace cosub::kernels
