// The fixed binary tree over the microbatches of a step, as pure functions. Node [lo, hi) is the sum of [lo,
// mid) and [mid, hi) with mid = lo + largest power of two strictly below hi - lo; the root is [0,
// num_microbatches).
#pragma once

#include <cstdint>
#include <vector>

#include "worker/collective/communicator.h"

namespace cosub::collective {

/// Where a node of at least two leaves is split.
std::int64_t split_of(Range node);

/// The maximal nodes that lie inside `owned`, ascending; together they cover it. At most 2
/// log2(num_microbatches).
std::vector<Range> subtrees_of(Range owned, std::int64_t num_microbatches);

}  // namespace cosub::collective
