// Logging for all programs, on spdlog: "2026-01-31 12:00:00.123 I [coordinator] text". To stderr; level from
// COSUB_LOG (trace, debug, info, warning, error). Call init once at the start of main; use spdlog::info etc.
// after.
#pragma once

#include <string>

namespace cosub {

void init_logging(const std::string& program);

}  // namespace cosub
