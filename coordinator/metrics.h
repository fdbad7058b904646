// The coordinator's own Prometheus page: pipelines by state, attempts started, attempts ended by class.
// Counters count since this process began. Updated on the strand that owns the state.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <map>
#include <string>

#include "coordinator/state.h"

namespace cosub::coordinator {

class CoordinatorMetrics {
 public:
  CoordinatorMetrics();
  void attempt_started() { started_.Increment(); }
  void attempt_ended(EndClass end);
  /// The page; `pipelines` counts by state ("running" -> 2).
  std::string text(const std::map<std::string, int>& pipelines);

 private:
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Gauge>& pipelines_;
  prometheus::Family<prometheus::Counter>& ended_;
  prometheus::Counter& started_;
};

}  // namespace cosub::coordinator
