#include "worker/collective/wait_error.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

namespace cosub::collective {

std::string in_words(std::chrono::milliseconds duration) {
  const auto count = duration.count();
  return count % 1000 == 0 ? fmt::format("{} s", count / 1000) : fmt::format("{} ms", count);
}

std::string describe_rank(std::int64_t rank, std::int64_t world_size, const std::string& host) {
  return fmt::format("rank {} of {} on {}", rank, world_size, host);
}

std::string describe_operation(const std::string& operation, const std::string& what) {
  return what.empty() ? operation : fmt::format("{} ({})", operation, what);
}

std::string list_ranks(const std::vector<std::int64_t>& ranks) {
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, ", "));
}

namespace {

std::string sentence(const std::string& who, const std::string& limit, const std::string& awaited,
                     const std::string& operation) {
  return fmt::format("{} waited {} for {} in {}", who, limit, awaited, operation);
}

}  // namespace

WaitLimitError::WaitLimitError(std::string who, std::chrono::milliseconds limit, const std::string& awaited,
                               std::string operation)
    : CollectiveError(sentence(who, in_words(limit), awaited, operation)),
      who_(std::move(who)),
      limit_(in_words(limit)),
      operation_(std::move(operation)) {}

std::string WaitLimitError::explained(const std::vector<std::int64_t>& ranks,
                                      const std::string& reason) const {
  const std::string told = ranks.empty() ? what() : sentence(who_, limit_, list_ranks(ranks), operation_);
  return reason.empty() ? told : told + ": " + reason;
}

}  // namespace cosub::collective
