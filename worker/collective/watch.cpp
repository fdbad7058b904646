#include "worker/collective/watch.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace cosub::collective {

std::string at_step(const std::string& what, std::int64_t step) {
  constexpr std::string_view kStep = "step ";
  if (!what.starts_with(kStep)) return what;
  const std::size_t end = what.find_first_not_of("0123456789", kStep.size());
  if (end == kStep.size()) return what;
  return fmt::format("{}{}{}", kStep, step, end == std::string::npos ? "" : what.substr(end));
}

std::uint64_t Watch::add(const std::string& operation, const std::string& what, bool replayed) {
  const std::lock_guard lock(mutex_);
  (replayed ? replayed_ : queued_)[++last_number_] = {operation, what};
  return last_number_;
}

std::optional<WaitLimitError> Watch::look(const Seen& seen, Time now, std::chrono::milliseconds limit,
                                          bool cancelled) {
  const std::lock_guard lock(mutex_);
  forget_before(seen.mark / 2);
  if (seen.mark % 2 == 0) {
    under_way_.reset();
    return std::nullopt;
  }
  if (!under_way_ || under_way_->seen != seen) under_way_ = {seen, now};
  if (!cancelled && now - under_way_->since < limit) return std::nullopt;
  return WaitLimitError(who_, limit, "the other ranks", describe(seen));
}

std::string Watch::under_way() const {
  const std::lock_guard lock(mutex_);
  return under_way_ ? describe(under_way_->seen) : "";
}

std::size_t Watch::num_known() const {
  const std::lock_guard lock(mutex_);
  return queued_.size() + replayed_.size();
}

std::string Watch::describe(const Seen& seen) const {
  const std::uint64_t number = seen.mark / 2;
  if (const auto found = replayed_.find(number); found != replayed_.end()) {
    const auto& [name, what] = found->second;
    return describe_operation(name, seen.step < 0 ? what : at_step(what, seen.step));
  }
  const auto found = queued_.find(number);
  if (found == queued_.end()) return fmt::format("operation {}", number);
  return describe_operation(found->second.name, found->second.what);
}

// Those not replayed come in the order of their numbers. One of a graph says nothing about them: it may be of
// any age.
void Watch::forget_before(std::uint64_t number) {
  if (!replayed_.contains(number)) queued_.erase(queued_.begin(), queued_.lower_bound(number));
}

void FirstError::set(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = std::move(error);
}

bool FirstError::is_set() const {
  const std::lock_guard lock(mutex_);
  return error_ != nullptr;
}

void FirstError::check() const {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
}

}  // namespace cosub::collective
