#include "worker/tools/weightless.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <fmt/format.h>
#include <torch/library.h>

#include "common/error.h"
#include "common/text.h"

namespace cosub::tools {
namespace {

// Above the keys of all devices, and nothing in LibTorch's own libraries uses it.
constexpr c10::DispatchKey kKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

thread_local std::size_t limit = 0, bytes_left = 0;

/// Stands before every operator: one that is told the device of its result is told another one.
void on_meta_device(const c10::OperatorHandle& op, c10::Stack* stack) {
  const std::vector<c10::Argument>& arguments = op.schema().arguments();
  const std::size_t first = stack->size() - arguments.size();
  bool creates = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i].name() != "device") continue;
    (*stack)[first + i] = c10::Device(c10::kMeta);
    creates = true;
  }
  const c10::impl::ExcludeDispatchKeyGuard below(kKey);
  op.callBoxed(stack);
  if (!creates || !stack->back().isTensor()) return;
  const std::size_t bytes = stack->back().toTensor().nbytes();
  if (bytes > bytes_left) {
    throw ConfigError(
        fmt::format("its weights need more than {} of memory", format_bytes(static_cast<double>(limit))));
  }
  bytes_left -= bytes;
}

void install() {
  static torch::Library library(torch::Library::IMPL, "_", kKey, __FILE__, __LINE__);
  static const bool once = [] {
    library.fallback(torch::CppFunction::makeFromBoxedFunction<&on_meta_device>());
    return true;
  }();
  static_cast<void>(once);
}

}  // namespace

Weightless::Weightless(std::int64_t limit_bytes) : guard_((install(), kKey)) {
  limit = bytes_left = static_cast<std::size_t>(limit_bytes);
}

Weightless::~Weightless() = default;

}  // namespace cosub::tools
