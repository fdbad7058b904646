#include "worker/collective/step_reduction.h"

#include "worker/collective/fast_reduction.h"
#include "worker/collective/grouped_reduction.h"
#include "worker/collective/ordered_reduction.h"

namespace cosub::collective {

std::unique_ptr<StepReduction> make_step_reduction(Communicator& communicator,
                                                   const ReductionOptions& options) {
  if (options.kind == config::Reduction::kOrdered)
    return std::make_unique<OrderedReduction>(communicator, options);
  return std::make_unique<FastReduction>(communicator, options);
}

std::unique_ptr<StepReduction> make_grouped_reduction(Communicator& communicator, Communicator& group,
                                                      const ReductionOptions& options) {
  return std::make_unique<GroupedReduction>(communicator, group, options);
}

}  // namespace cosub::collective
