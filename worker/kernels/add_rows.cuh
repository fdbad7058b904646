// A branch's result, times LayerScale (arXiv 2103.17239) and the branch's scale, added to some rows.
#pragma once

#include "worker/kernels/lines.cuh"

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

/// In the kernels below a warp has a line, or of a long one the columns that blockIdx.y says: kPacks packs of
/// them a lane.
template <int kWidth, int kPacks>
struct AddColumns {
  static constexpr int kWarps = kPacks == 1 ? 12 : 24 / kPacks;  // of a block
  static constexpr int kBlocks = 4;                              // of a multiprocessor, as registers allow
  using Line = LinePacks<kWidth, kPacks>;

  static std::int64_t chunks(std::int64_t channels) {
    return (channels + Line::kColumns - 1) / Line::kColumns;
  }

  std::int64_t first = blockIdx.y * Line::kColumns;
  int count;

  __device__ __forceinline__ explicit AddColumns(std::int64_t channels)
      : count(static_cast<int>(channels - first < Line::kColumns ? channels - first : Line::kColumns)) {}
  /// scale * gamma of them.
  __device__ __forceinline__ Line factors(const float* gamma, float scale) const {
    Line line;
    if (gamma != nullptr) line.read(gamma + first, count);
    for (Pack<kWidth>& pack : line.at)
      for (float& factor : pack.at) factor = gamma != nullptr ? scale * factor : scale;
    return line;
  }
};

template <class T, int kWidth, int kPacks>
__global__ void add_rows_in_place(AddRows a) {
  using Columns = AddColumns<kWidth, kPacks>;
  const std::int64_t line = static_cast<std::int64_t>(blockIdx.x) * Columns::kWarps + threadIdx.y;
  const std::int64_t channels = a.part.channels;
  if (line >= a.part.num_rows * a.part.positions) return;
  const Columns columns(channels);
  float* sum = a.sum + line_of_whole(a.part, line) * channels + columns.first;
  typename Columns::Line values, addend;
  values.read(sum, columns.count);
  addend.read(static_cast<const T*>(a.addend) + line * channels + columns.first, columns.count);
  const auto factors = columns.factors(a.gamma, a.scale);
  for (int p = 0; p < kPacks; ++p)
    for (int i = 0; i < kWidth; ++i) values.at[p].at[i] += factors.at[p].at[i] * addend.at[p].at[i];
  values.write(sum, columns.count);
}

template <class T, int kWidth, int kPacks, class Columns = AddColumns<kWidth, kPacks>>
__global__ void __launch_bounds__(kWarp* Columns::kWarps, Columns::kBlocks)
    add_rows_backward_kernel(AddRowsBackward a) {
  const std::int64_t lines = a.part.num_rows * a.part.positions, channels = a.part.channels;
  const Columns columns(channels);
  const auto factors = columns.factors(a.gamma, a.scale);
  typename Columns::Line sums[1];
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * Columns::kWarps;
  for (std::int64_t line = blockIdx.x * Columns::kWarps + threadIdx.y; line < lines; line += step) {
    typename Columns::Line d, addend;
    d.read(a.d_sum + line_of_whole(a.part, line) * channels + columns.first, columns.count);
    const std::int64_t of_part = line * channels + columns.first;
    if (a.addend != nullptr) addend.read(static_cast<const T*>(a.addend) + of_part, columns.count);
    for (int p = 0; p < kPacks; ++p) {
      for (int i = 0; i < kWidth; ++i) {
        sums[0].at[p].at[i] += a.scale * d.at[p].at[i] * addend.at[p].at[i];
        d.at[p].at[i] *= factors.at[p].at[i];
      }
    }
    d.write(static_cast<T*>(a.d_addend) + of_part, columns.count);
  }
  if (a.scratch == nullptr) return;
  leave_sums<Columns::kWarps>(sums, columns.count, a.scratch + blockIdx.x * channels + columns.first, 0);
}

/// function(a type's value, std::integral_constant of a pack's width, of a lane's packs)
template <class Function>
void with_add_packs(Dtype type, std::int64_t channels, bool four, const Function& function) {
  with_type(type, [&](auto value) {
    const auto call = [&](auto width, auto packs) { function(value, width, packs); };
    using Four = std::integral_constant<int, 4>;
    using Six = std::integral_constant<int, 6>;
    if (!four) return call(std::integral_constant<int, 1>{}, Six{});
    if (channels <= 4 * kWarp) return call(Four{}, std::integral_constant<int, 1>{});
    if (channels <= 3 * 4 * kWarp) return call(Four{}, std::integral_constant<int, 3>{});
    call(Four{}, Six{});
  });
}

inline void run_add_rows(const AddRows& a, Stream stream) {
  const RowPart& part = a.part;
  const bool four = part.channels % 4 == 0 && aligned_for_4(a.whole, a.gamma, a.addend, a.sum);
  if (a.sum == a.whole) {
    return with_add_packs(a.addend_type, part.channels, four, [&](auto type, auto width, auto packs) {
      constexpr int kWidth = decltype(width)::value, kPacks = decltype(packs)::value;
      using Columns = AddColumns<kWidth, kPacks>;
      const std::int64_t blocks = (part.num_rows * part.positions + Columns::kWarps - 1) / Columns::kWarps;
      launch("add_rows", add_rows_in_place<decltype(type), kWidth, kPacks>,
             {blocks, Columns::chunks(part.channels)}, {kWarp, Columns::kWarps}, stream, a);
    });
  }
  const std::int64_t lines = kAddFloats / part.channels < 1 ? 1 : kAddFloats / part.channels;
  const std::int64_t chunks = (part.positions + lines - 1) / lines;
  with_type(a.addend_type, [&](auto type) {
    with_width(four, [&](auto width) {
      launch("add_rows", add_rows_kernel<decltype(type), decltype(width)::value>, {a.whole_rows * chunks, 1},
             {kAddThreads, 1}, stream, a, static_cast<unsigned>(chunks), static_cast<unsigned>(lines));
    });
  });
}

inline void run_add_rows_backward(const AddRowsBackward& a, Stream stream) {
  const std::int64_t lines = a.part.num_rows * a.part.positions, channels = a.part.channels;
  const bool four = channels % 4 == 0 && aligned_for_4(a.d_sum, a.gamma, a.addend, a.d_addend, a.scratch);
  with_add_packs(a.addend_type, channels, four, [&](auto type, auto width, auto packs) {
    constexpr int kWidth = decltype(width)::value, kPacks = decltype(packs)::value;
    using Columns = AddColumns<kWidth, kPacks>;
    const std::int64_t chunks = Columns::chunks(channels),
                       pieces = (column_pieces(lines) + chunks - 1) / chunks;
    launch("add_rows_backward", add_rows_backward_kernel<decltype(type), kWidth, kPacks>, {pieces, chunks},
           {kWarp, Columns::kWarps}, stream, a);
    if (a.d_gamma != nullptr) launch_totals(a.scratch, pieces, channels, 1, stream, a.d_gamma);
  });
}

}  // namespace cosub::kernels
