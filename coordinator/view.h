// The state as people and programs see it: protocol::PipelineView, and what Prometheus is told. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/protocol.h"
#include "coordinator/state.h"

namespace cosub::coordinator {

std::int64_t unix_now();  // the wall clock in seconds, for display only

protocol::PipelineView view_of(const PipelineState& pipeline, Instant now, std::int64_t wall_clock);

/// Prometheus http_sd: one group of rank addresses per live attempt, labelled pipeline, stage, attempt.
nlohmann::json service_discovery(const std::vector<const PipelineState*>& pipelines);

}  // namespace cosub::coordinator
