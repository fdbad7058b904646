#include "common/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <map>
#include <memory>

namespace cosub {

void init_logging(const std::string& program) {
  static const std::map<std::string, spdlog::level::level_enum> kLevels = {{"trace", spdlog::level::trace},
                                                                           {"debug", spdlog::level::debug},
                                                                           {"info", spdlog::level::info},
                                                                           {"warning", spdlog::level::warn},
                                                                           {"error", spdlog::level::err}};
  auto logger =
      std::make_shared<spdlog::logger>(program, std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%L%$ [%n] %v");
  spdlog::set_default_logger(logger);

  const char* wanted = std::getenv("COSUB_LOG");
  if (wanted == nullptr || *wanted == '\0') return;
  const auto level = kLevels.find(wanted);
  if (level == kLevels.end()) {
    spdlog::warn("COSUB_LOG={} is not a level; allowed are trace, debug, info, warning and error", wanted);
    return;
  }
  logger->set_level(level->second);
}

}  // namespace cosub
