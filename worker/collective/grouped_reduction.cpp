#include "worker/collective/grouped_reduction.h"

#include <fmt/format.h>

#include <stdexcept>

namespace cosub::collective {

GroupedReduction::GroupedReduction(Communicator& communicator, Communicator& group,
                                   const ReductionOptions& options)
    : place_(group.rank()),
      group_size_(group.world_size()),
      column_(communicator.split(place_, "ranks at the same place of their groups")) {
  if (options.num_microbatches % group_size_ != 0) {
    throw std::invalid_argument("the microbatches of a step must be a multiple of the group's size");
  }
  ReductionOptions part = options;
  part.num_microbatches = options.num_microbatches / group_size_;
  over_bundles_ = make_step_reduction(*column_, part);
  part.num_microbatches = group_size_;
  over_places_ = make_step_reduction(group, part);
}

void GroupedReduction::begin(std::int64_t step) {
  step_ = step;
  over_bundles_->begin(step);
}

void GroupedReduction::add(std::int64_t microbatch, const at::Tensor& leaf) {
  if (microbatch % group_size_ != place_) {
    throw std::logic_error(fmt::format("step {}: microbatch {} added by the rank at place {} of groups of {}",
                                       step_, microbatch, place_, group_size_));
  }
  over_bundles_->add(microbatch / group_size_, leaf);
}

const at::Tensor& GroupedReduction::finish() {
  over_places_->begin(step_);
  over_places_->add(place_, over_bundles_->finish());
  return over_places_->finish();
}

}  // namespace cosub::collective
