// Network file systems fail for a moment now and then; that says nothing about content, so it is tried again.
#pragma once

#include <spdlog/spdlog.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>

#include "common/error.h"

namespace cosub::checkpoint {

inline constexpr std::array kRetryWaits = {std::chrono::milliseconds(100), std::chrono::milliseconds(400),
                                           std::chrono::milliseconds(1600)};

inline bool may_pass(const IoError& error) {
  return error.error_number() == EIO || error.error_number() == ESTALE || error.error_number() == ETIMEDOUT;
}

/// Calls `action` until it ends without EIO, ESTALE or ETIMEDOUT, at most once more than there are waits;
/// then the error goes to the caller. Blocks.
template <typename Action>
auto with_retries(const std::string& what, Action action) {
  for (const auto wait : kRetryWaits) {
    try {
      return action();
    } catch (const IoError& error) {
      if (!may_pass(error)) throw;
      spdlog::warn("{}: {}; trying again in {} ms", what, error.what(), wait.count());
      std::this_thread::sleep_for(wait);
    }
  }
  return action();
}

}  // namespace cosub::checkpoint
