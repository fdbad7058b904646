// Which rank owns which microbatches of a step, and the fixed binary tree over them. Node [lo, hi) is the sum
// of [lo, mid) and [mid, hi) with mid = lo + largest power of two strictly below hi - lo; the root is [0,
// num_microbatches).
#pragma once

#include <cstdint>
#include <vector>

namespace cosub::collective {

/// The contiguous range of microbatches of a step that a rank owns.
struct Range {
  std::int64_t begin = 0, end = 0;
  bool operator==(const Range&) const = default;
};
Range microbatches_of(std::int64_t rank, std::int64_t world_size, std::int64_t num_microbatches);

/// begin, begin + stride, ... below end
struct StridedRange {
  std::int64_t begin = 0, end = 0, stride = 1;
  bool operator==(const StridedRange&) const = default;
};
/// The same where `group_size` neighbouring ranks handle as many neighbouring microbatches at a time, one
/// each: a group owns a contiguous range of such bundles. Both numbers must be multiples of `group_size`.
StridedRange microbatches_of(std::int64_t rank, std::int64_t world_size, std::int64_t num_microbatches,
                             std::int64_t group_size);

/// Where a node of at least two leaves is split.
std::int64_t split_of(Range node);

/// The maximal nodes that lie inside `owned`, ascending; together they cover it. At most 2
/// log2(num_microbatches).
std::vector<Range> subtrees_of(Range owned, std::int64_t num_microbatches);

}  // namespace cosub::collective
