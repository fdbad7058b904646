#include "coordinator/metrics.h"

#include <prometheus/text_serializer.h>

namespace cosub::coordinator {

CoordinatorMetrics::CoordinatorMetrics()
    : pipelines_(prometheus::BuildGauge()
                     .Name("cosub_coordinator_pipelines")
                     .Help("Pipelines this coordinator knows, by state")
                     .Register(registry_)),
      ended_(prometheus::BuildCounter()
                 .Name("cosub_coordinator_attempts_ended_total")
                 .Help("Attempts that ended, by class of reason")
                 .Register(registry_)),
      started_(prometheus::BuildCounter()
                   .Name("cosub_coordinator_attempts_started_total")
                   .Help("Attempts started")
                   .Register(registry_)
                   .Add({})) {
  for (const char* state : {"running", "stopping", "stopped", "succeeded", "failed"})
    pipelines_.Add({{"state", state}});
  for (EndClass end : {EndClass::kDone, EndClass::kInterrupted, EndClass::kOwnError, EndClass::kOutside,
                       EndClass::kBadInput, EndClass::kVoided})
    ended_.Add({{"class", to_string(end)}});
}

void CoordinatorMetrics::attempt_ended(EndClass end) {
  ended_.Add({{"class", to_string(end)}}).Increment();
}

std::string CoordinatorMetrics::text(const std::map<std::string, int>& pipelines) {
  for (const char* state : {"running", "stopping", "stopped", "succeeded", "failed"}) {
    const auto found = pipelines.find(state);
    pipelines_.Add({{"state", state}}).Set(found == pipelines.end() ? 0 : found->second);
  }
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

}  // namespace cosub::coordinator
