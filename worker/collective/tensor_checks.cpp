#include "worker/collective/tensor_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <sstream>
#include <stdexcept>

namespace cosub::collective {

void check_tensor(const at::Tensor& tensor, at::DeviceType device, const char* operation) {
  if (!tensor.defined()) throw std::logic_error(fmt::format("{}: undefined tensor", operation));
  const auto type = tensor.scalar_type();
  const bool known = type == at::kFloat || type == at::kDouble || type == at::kLong || type == at::kByte;
  if (known && tensor.is_contiguous() && tensor.device().type() == device) return;
  std::ostringstream found;
  found << at::toString(type) << " on " << tensor.device()
        << (tensor.is_contiguous() ? "" : ", not contiguous");
  throw std::logic_error(
      fmt::format("{}: needs a contiguous float32, float64, int64 or uint8 tensor on {}; got {}", operation,
                  c10::DeviceTypeName(device, true), found.str()));
}

void check_tensors(const std::vector<at::Tensor>& tensors, std::int64_t world_size, at::DeviceType device,
                   const char* operation) {
  if (static_cast<std::int64_t>(tensors.size()) != world_size) {
    throw std::logic_error(fmt::format("{}: needs one tensor for each of {} ranks; got {}", operation,
                                       world_size, tensors.size()));
  }
  for (const auto& tensor : tensors) check_tensor(tensor, device, operation);
}

void copy_own(const at::Tensor& from, at::Tensor& to) {
  if (from.numel() != to.numel() || from.scalar_type() != to.scalar_type()) {
    throw std::logic_error(
        fmt::format("a rank sends itself {} elements but receives {}", from.numel(), to.numel()));
  }
  if (from.data_ptr() != to.data_ptr()) to.view(-1).copy_(from.view(-1));
}

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
