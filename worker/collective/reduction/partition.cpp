#include "worker/collective/reduction/partition.h"

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace cosub::collective {
namespace {

void collect_subtrees(Range node, Range owned, std::vector<Range>& subtrees) {
  if (node.end <= owned.begin || owned.end <= node.begin) return;
  if (owned.begin <= node.begin && node.end <= owned.end) {
    subtrees.push_back(node);
    return;
  }
  const auto mid = split_of(node);
  collect_subtrees({node.begin, mid}, owned, subtrees);
  collect_subtrees({mid, node.end}, owned, subtrees);
}

}  // namespace

Range microbatches_of(std::int64_t rank, std::int64_t world_size, std::int64_t num_microbatches) {
  if (rank < 0 || rank >= world_size || num_microbatches < 0) {
    throw std::invalid_argument("microbatches_of: rank must lie in [0, world_size)");
  }
  // The first `longer` ranks own one more. No product, so that no size overflows.
  const auto each = num_microbatches / world_size;
  const auto longer = num_microbatches % world_size;
  const auto begin = rank * each + std::min(rank, longer);
  return {begin, begin + each + (rank < longer ? 1 : 0)};
}

StridedRange microbatches_of(std::int64_t rank, std::int64_t world_size, std::int64_t num_microbatches,
                             std::int64_t group_size) {
  if (group_size < 1 || world_size % group_size != 0 || num_microbatches % group_size != 0) {
    throw std::invalid_argument(
        "microbatches_of: ranks and microbatches must be multiples of the group's size");
  }
  const auto bundles =
      microbatches_of(rank / group_size, world_size / group_size, num_microbatches / group_size);
  return {bundles.begin * group_size + rank % group_size, bundles.end * group_size, group_size};
}

std::int64_t split_of(Range node) {
  const auto below = static_cast<std::uint64_t>(node.end - node.begin - 1);
  return node.begin + static_cast<std::int64_t>(std::bit_floor(below));
}

std::vector<Range> subtrees_of(Range owned, std::int64_t num_microbatches) {
  std::vector<Range> subtrees;
  if (owned.begin < owned.end) collect_subtrees({0, num_microbatches}, owned, subtrees);
  return subtrees;
}

}  // namespace cosub::collective
