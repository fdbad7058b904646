#include "worker/model/weights.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "common/error.h"
#include "common/text.h"

namespace cosub::model {
namespace {

std::string shape_text(const at::Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes(), ", "));
}

void resample_if_needed(const Backbone& backbone, std::map<std::string, at::Tensor>& state) {
  const std::map<std::string, at::Tensor> given = state;
  backbone.resample(state);
  for (const auto& [name, tensor] : state) {
    const at::Tensor& before = given.at(name);
    if (before.sizes() == tensor.sizes()) continue;
    spdlog::info("{} resampled from {} to {} for images of {} pixels", name, shape_text(before),
                 shape_text(tensor), backbone.config().image_size);
  }
}

/// Removes what is given for the classifier, and its own tensors from what is wanted.
void keep_new_head(const Backbone& backbone, std::map<std::string, at::Tensor>& wanted,
                   std::map<std::string, at::Tensor>& state) {
  const std::string prefix = backbone.classifier() + ".";
  const auto of_head = [&](const auto& item) { return item.first.starts_with(prefix); };
  const std::size_t ignored = std::erase_if(state, of_head);
  std::erase_if(wanted, of_head);
  spdlog::info("classifier '{}' starts anew with {} classes; {} tensors given for it were left out",
               backbone.classifier(), backbone.config().classes, ignored);
}

/// The names in `tensors` that `others` lacks.
std::vector<std::string> names_only_in(const std::map<std::string, at::Tensor>& tensors,
                                       const std::map<std::string, at::Tensor>& others) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    if (!others.contains(name)) names.push_back(name);
  }
  return names;
}

std::string shape_problem(const Backbone& backbone, const std::string& name, const at::Tensor& given,
                          const at::Tensor& wanted) {
  std::string problem =
      fmt::format("\n  {}: shape {}, the model's is {}", name, shape_text(given), shape_text(wanted));
  if (name.starts_with(backbone.classifier() + ".")) {
    problem += fmt::format(" ({} classes against {}; init.head: replace starts a new classifier)",
                           given.size(0), wanted.size(0));
  }
  return problem;
}

std::string problems(const Backbone& backbone, const std::map<std::string, at::Tensor>& wanted,
                     const std::map<std::string, at::Tensor>& state) {
  const std::vector<std::string> missing = names_only_in(wanted, state),
                                 unexpected = names_only_in(state, wanted);
  std::string text;
  for (const auto& [name, tensor] : wanted) {
    const auto given = state.find(name);
    if (given == state.end()) {
      text += fmt::format("\n  {}: missing.{}", name, did_you_mean(name, unexpected));
    } else if (given->second.sizes() != tensor.sizes()) {
      text += shape_problem(backbone, name, given->second, tensor);
    } else if (given->second.is_floating_point() != tensor.is_floating_point()) {
      text += fmt::format("\n  {}: dtype {}, the model's is {}", name,
                          at::toString(given->second.scalar_type()), at::toString(tensor.scalar_type()));
    }
  }
  for (const std::string& name : unexpected) {
    text += fmt::format("\n  {}: not a tensor of this model.{}", name, did_you_mean(name, missing));
  }
  return text;
}

}  // namespace

void load_state(Backbone& backbone, std::map<std::string, at::Tensor> state, HeadPolicy head,
                const std::string& origin) {
  std::map<std::string, at::Tensor> wanted = state_of(backbone);
  if (head == HeadPolicy::kReplace) keep_new_head(backbone, wanted, state);
  resample_if_needed(backbone, state);
  const std::string text = problems(backbone, wanted, state);
  if (!text.empty()) {
    throw DataError(fmt::format("{} does not fit {}:{}", origin, backbone.config().name, text));
  }
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : wanted) tensor.copy_(state.at(name));
}

}  // namespace cosub::model
