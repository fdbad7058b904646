// Sums over lines alone, and of three tensors that become one: gradients of biases, of several projections at
// once.
#pragma once

#include "worker/kernels/columns.cuh"

namespace cosub::kernels {

template <class T, int kWidth>
struct ColumnSumsBody {
  static constexpr int kLinesAtOnce = 1;
  using In = Pack<kWidth>;
  ColumnSums a;

  __device__ __forceinline__ void begin(std::int64_t /*column*/) {}
  __device__ __forceinline__ In read(std::int64_t line, std::int64_t column) const {
    return load<kWidth>(static_cast<const T*>(a.x) + line * a.channels + column);
  }
  __device__ __forceinline__ void use(const In& x, std::int64_t /*line*/, std::int64_t /*column*/,
                                      float (&sums)[kWidth]) const {
    for (int i = 0; i < kWidth; ++i) sums[i] += x.at[i];
  }
};

template <class T, int kWidth>
struct JoinColumnsBody {
  static constexpr int kLinesAtOnce = 2;
  using In = Pack<kWidth>;
  JoinColumns a;
  const T* from;  // the part and in it the column

  __device__ __forceinline__ void begin(std::int64_t column) {
    const std::int64_t part = column / a.channels;
    from = static_cast<const T*>(part == 0   ? a.parts[0]
                                 : part == 1 ? a.parts[1]
                                             : a.parts[2]) +
           column - part * a.channels;
  }
  __device__ __forceinline__ In read(std::int64_t line, std::int64_t /*column*/) const {
    return load<kWidth>(from + line * a.channels);
  }
  __device__ __forceinline__ void use(const In& x, std::int64_t line, std::int64_t column,
                                      float (&sums)[kWidth]) const {
    for (int i = 0; i < kWidth; ++i) sums[i] += x.at[i];
    store(x, static_cast<T*>(a.joined) + line * 3 * a.channels + column);
  }
};

inline void run_column_sums(const ColumnSums& a, Stream stream) {
  const bool four = a.channels % 4 == 0 && aligned_for_4(a.x);
  with_type(a.type, [&](auto type) {
    with_width(four, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      run_columns<kWidth>("column_sums", ColumnSumsBody<decltype(type), kWidth>{a}, a.lines, a.channels,
                          a.scratch, stream, a.sums);
    });
  });
}

inline void run_join_columns(const JoinColumns& a, Stream stream) {
  const bool four = a.channels % 4 == 0 && aligned_for_4(a.parts[0], a.parts[1], a.parts[2], a.joined);
  with_type(a.type, [&](auto type) {
    with_width(four, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      run_columns<kWidth>("join_columns", JoinColumnsBody<decltype(type), kWidth>{a, nullptr}, a.lines,
                          3 * a.channels, a.scratch, stream, a.sums);
    });
  });
}

}  // namespace cosub::kernels
