// What our kernels take: raw pointers into memory of the GPU and sizes, no type of CUDA's or LibTorch's. Read
// by the host code that calls them (kernels.h) and by the kernels, which are C++17.
//
// Tensors are dense. `rows` [num_rows] int64 on the device names the rows of the whole tensor [N, positions,
// channels] that a part [num_rows, positions, channels] stands for, each at most once; null: row i of the
// part is row i. Sums over lines (a line: the channels of one position of one row) are made in two stages of
// fixed order, so that runs repeat bit for bit; between them they lie in `scratch`, whose size column_scratch
// tells.
#pragma once

#include <cstdint>

namespace cosub::kernels {

enum class Dtype : int { kFloat32, kBfloat16 };

struct RowPart {
  const std::int64_t* rows = nullptr;
  std::int64_t num_rows = 0, positions = 1, channels = 1;
};

/// y[i] = LayerNorm(x[rows[i]]) over the channels, of variance plus eps.
struct LayerNorm {
  RowPart part;
  const float *x = nullptr, *weight = nullptr, *bias = nullptr;  // [N, positions, channels], [channels] twice
  float eps = 0;
  void* y = nullptr;  // [num_rows, positions, channels]
  Dtype y_type = Dtype::kFloat32;
  float *mean = nullptr, *rstd = nullptr;  // [num_rows, positions]: for the backward pass
  void* normed = nullptr;                  // as y: (x[rows] - mean) * rstd; null: not wanted
};

struct LayerNormBackward {
  RowPart part;
  const float *x = nullptr, *weight = nullptr, *mean = nullptr, *rstd = nullptr;  // as in LayerNorm
  const void* normed = nullptr;  // as in LayerNorm; with it x and mean are not read
  const void* d_y = nullptr;
  Dtype y_type = Dtype::kFloat32;
  float* d_x = nullptr;                          // [N, positions, channels], of which only `rows` are touched
  bool adds = false;                             // to what is in d_x; otherwise overwrites
  float *d_weight = nullptr, *d_bias = nullptr;  // [channels]; both null: not wanted
  float* scratch = nullptr;  // column_scratch(num_rows * positions, channels, 2); null where both are
};

/// sum = whole, and in rows also scale * gamma * part. Where sum is whole only those rows are touched.
struct AddRows {
  RowPart part;
  std::int64_t whole_rows = 0;                     // N
  const float *whole = nullptr, *gamma = nullptr;  // [N, positions, channels]; [channels], null: 1
  float scale = 1;
  const void* addend = nullptr;  // [num_rows, positions, channels]
  Dtype addend_type = Dtype::kFloat32;
  float* sum = nullptr;  // [N, positions, channels]
};

/// d_addend = scale * gamma * d_sum[rows]; d_gamma = the sums over lines of scale * addend * d_sum[rows]. The
/// gradient of whole is d_sum.
struct AddRowsBackward {
  RowPart part;
  const float *d_sum = nullptr, *gamma = nullptr;  // as in AddRows
  float scale = 1;
  Dtype addend_type = Dtype::kFloat32;  // of addend and d_addend
  const void* addend = nullptr;         // null where d_gamma is
  void* d_addend = nullptr;
  float* d_gamma = nullptr;  // [channels], null: not wanted
  float* scratch = nullptr;  // column_scratch(num_rows * positions, channels, 1), null where d_gamma is
};

/// y = gelu(x + bias), the exact form (arXiv 1606.08415): x Phi(x).
struct BiasGelu {
  std::int64_t lines = 0, channels = 1;
  Dtype type = Dtype::kFloat32;  // of x and y
  const void* x = nullptr;       // [lines, channels]
  const float* bias = nullptr;   // [channels]
  void* y = nullptr;
};

/// d_x = d_y gelu'(x + bias), which may overwrite d_y; d_bias = the sums of that over lines; y = gelu(x +
/// bias), with the bits of BiasGelu's.
struct BiasGeluBackward {
  std::int64_t lines = 0, channels = 1;
  Dtype type = Dtype::kFloat32;  // of x, d_y, d_x and y
  const void* x = nullptr;
  const float* bias = nullptr;
  const void* d_y = nullptr;
  void *d_x = nullptr, *y = nullptr;
  float* d_bias = nullptr;   // [channels]
  float* scratch = nullptr;  // column_scratch(lines, channels, 1)
};

/// sums = the sums of x over its lines.
struct ColumnSums {
  std::int64_t lines = 0, channels = 1;
  Dtype type = Dtype::kFloat32;
  const void* x = nullptr;   // [lines, channels]
  float* sums = nullptr;     // [channels]
  float* scratch = nullptr;  // column_scratch(lines, channels, 1)
};

/// joined = three tensors side by side: the gradient of one projection's result from those of queries, keys
/// and values; sums = the sums of that over its lines.
struct JoinColumns {
  std::int64_t lines = 0, channels = 1;  // of each of the three
  Dtype type = Dtype::kFloat32;
  const void* parts[3] = {};  // [lines, channels]
  void* joined = nullptr;     // [lines, 3, channels]
  float* sums = nullptr;      // [3, channels], null: not wanted
  float* scratch = nullptr;   // column_scratch(lines, 3 * channels, 1)
};

/// y = gelu(a b^T + bias) and slope = gelu'(a b^T + bias), what the gradient of y is to be multiplied with:
/// the hidden values of an MLP, all in bfloat16 but for the bias. Of compute capability 9.0, where it was
/// built; what product_takes.
struct GeluProduct {
  std::int64_t m = 0, n = 0, k = 0;
  const void *a = nullptr, *b = nullptr;  // [m, k], [n, k]
  const float* bias = nullptr;            // [n]
  void *y = nullptr, *slope = nullptr;    // [m, n]
};

/// d_x = (a b) slope, value by value, and d_bias = the sums of that over lines. As GeluProduct.
struct SlopeProduct {
  std::int64_t m = 0, n = 0, k = 0;
  const void *a = nullptr, *b = nullptr;        // [m, k], [k, n]
  const void* slope = nullptr;                  // [m, n]
  void* d_x = nullptr;                          // [m, n]
  float *d_bias = nullptr, *scratch = nullptr;  // [n]; [product_tiles(m), n]
};

/// Lines of a tile, whose sums lie in scratch.
constexpr std::int64_t kProductLines = 128;
constexpr std::int64_t product_tiles(std::int64_t m) {
  return (m + kProductLines - 1) / kProductLines;
}

/// Lines are multiples of 16 bytes, and begin at such.
constexpr bool product_takes(std::int64_t n, std::int64_t k) {
  return n % 8 == 0 && k % 8 == 0;
}

/// Attention within rows; width: of a head. Queries, keys and values lie as one projection wrote them, [rows,
/// tokens, 3, heads, width]. All in bfloat16, on GPUs of compute capability 9.0 alone.
struct AttentionSizes {
  std::int64_t rows = 0, tokens = 0, heads = 1, width = 1;
};

/// out = softmax(scale q k^T) v for each row and head. What attention_takes.
struct AttentionForward : AttentionSizes {
  float scale = 1;            // above 0
  const void* qkv = nullptr;  // [rows, tokens, 3, heads, width]
  void* out = nullptr;        // [rows, tokens, heads, width]
  float* log_sums = nullptr;  // [rows, heads, tokens] ln of each query's sum of exp(scale q k)
};

/// A block has all tokens of a row and head in its shared memory, by four times 64 and one.
constexpr bool attention_takes(std::int64_t tokens, std::int64_t width) {
  return (width == 64 || width == 80) && tokens > 192 && tokens <= 257;
}

/// The gradients. What attention_backward_takes.
struct AttentionBackward : AttentionSizes {
  float scale = 1;
  const void* qkv = nullptr;                    // [rows, tokens, 3, heads, width]
  const void *out = nullptr, *d_out = nullptr;  // [rows, tokens, heads, width]
  const float* log_sums = nullptr;              // as of AttentionForward
  void* d_qkv = nullptr;                        // as qkv
  // The sums of d_qkv over rows and tokens, [3, heads, width]: a projection's gradient of its bias. Of keys
  // it is 0, since softmax does not see what is added to all scores of a query. Null: not wanted.
  float* sums = nullptr;
  float* scratch = nullptr;  // [rows, 3, heads, width], null where sums is
};

/// A block has all tokens of a row and head in its shared memory. Those of 80 are for ViT-H/14.
constexpr bool attention_backward_takes(std::int64_t tokens, std::int64_t width) {
  return (width == 64 && tokens >= 1 && tokens <= 208) || (width == 80 && tokens > 192 && tokens <= 257);
}

/// LayerNorm takes a line's channels at once, in packs of four where their number and alignment allow.
constexpr std::int64_t kMostNormPacks = 512;
constexpr bool norm_takes(std::int64_t channels) {
  return (channels % 4 == 0 ? channels / 4 : channels) <= kMostNormPacks;
}

/// Of how many pieces at most a sum over so many lines is made: a matter of the shape alone, not of the
/// device, though the most is a multiple of the 132 multiprocessors of an H100, all of which so end at once.
constexpr std::int64_t column_pieces(std::int64_t lines) {
  constexpr std::int64_t kLinesOfPiece = 32, kMaxPieces = 528;
  const std::int64_t pieces = (lines + kLinesOfPiece - 1) / kLinesOfPiece;
  return pieces < 1 ? 1 : pieces > kMaxPieces ? kMaxPieces : pieces;
}

/// Floats of scratch for `sums` sums over lines of each column.
constexpr std::int64_t column_scratch(std::int64_t lines, std::int64_t channels, std::int64_t sums) {
  return sums * column_pieces(lines) * channels;
}

}  // namespace cosub::kernels
