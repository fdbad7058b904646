#include "worker/model/weights.h"

#include <c10/core/ScalarType.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "common/error.h"
#include "common/text.h"

namespace cosub::model {
namespace {

std::string shape_text(const at::Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes(), ", "));
}

void resample_if_needed(const Backbone& backbone, std::map<std::string, at::Tensor>& state) {
  // No model has an empty tensor, and interpolation refuses them with PyTorch's own error.
  const bool any_empty =
      std::any_of(state.begin(), state.end(), [](const auto& item) { return item.second.numel() == 0; });
  if (any_empty) return;
  const std::map<std::string, at::Tensor> given = state;
  backbone.resample(state);
  for (const auto& [name, tensor] : state) {
    const at::Tensor& before = given.at(name);
    if (before.sizes() == tensor.sizes()) continue;
    spdlog::info("{} resampled from {} to {} for images of {} pixels", name, shape_text(before),
                 shape_text(tensor), backbone.config().image_size);
  }
}

/// A name as a file has it, which may be anything, fit for a line of a message.
std::string shown(const std::string& name) {
  constexpr std::size_t kMaxLength = 120;
  std::string text = name.substr(0, kMaxLength);
  if (name.size() > kMaxLength) text.append("...");
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 127; }, '?');
  return text;
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

std::string dtype_text(const at::Tensor& tensor) {
  return c10::getDtypeNames(tensor.scalar_type()).first;
}

/// What is wrong with a tensor that is there; "" when it can be copied.
std::string misfit(const Backbone& backbone, const std::string& name, const at::Tensor& given,
                   const at::Tensor& wanted) {
  if (given.sizes() == wanted.sizes()) {
    if (given.is_floating_point() == wanted.is_floating_point()) return "";
    return fmt::format("{}: dtype {}, the model's is {}", name, dtype_text(given), dtype_text(wanted));
  }
  const bool of_head = name.starts_with(backbone.classifier() + ".") && given.dim() > 0 && wanted.dim() > 0;
  return fmt::format("{}: shape {}, the model's is {}{}", name, shape_text(given), shape_text(wanted),
                     of_head
                         ? fmt::format(" ({} classes against {}; init.head: replace starts a new classifier)",
                                       given.size(0), wanted.size(0))
                         : "");
}

/// What all names in `state` begin with and the model's do not, as after DataParallel or Lightning; "" when
/// there is nothing of the kind.
std::string common_prefix(const std::map<std::string, at::Tensor>& wanted,
                          const std::map<std::string, at::Tensor>& state) {
  if (state.empty()) return "";
  const std::string& first = state.begin()->first;
  for (std::size_t dot = first.find('.'); dot != std::string::npos; dot = first.find('.', dot + 1)) {
    const std::string prefix = first.substr(0, dot + 1);
    const auto has_prefix = [&](const auto& item) { return item.first.starts_with(prefix); };
    if (!std::all_of(state.begin(), state.end(), has_prefix)) return "";
    const auto num_known = std::count_if(state.begin(), state.end(), [&](const auto& item) {
      return wanted.contains(item.first.substr(prefix.size()));
    });
    if (2 * static_cast<std::size_t>(num_known) > state.size()) return prefix;
  }
  return "";
}

/// How far the two agree, and why they may not.
std::string summary(const std::map<std::string, at::Tensor>& wanted,
                    const std::map<std::string, at::Tensor>& state, std::size_t num_missing,
                    std::size_t num_misfits) {
  const std::size_t num_fitting = wanted.size() - num_missing - num_misfits;
  std::string text = fmt::format("{} of the model's {} tensors are there", num_fitting, wanted.size());
  if (num_misfits > 0) text += fmt::format(", {} more with another shape or dtype", num_misfits);
  if (const std::string prefix = common_prefix(wanted, state); !prefix.empty())
    return text +
           fmt::format("; every name begins with '{0}': store the tensors without '{0}'", shown(prefix));
  // Half of a ResNet's names are another ResNet's, or a ViT's another ViT's; a few are in every family.
  if (num_missing > wanted.size() * 3 / 4)
    text += "; these look like the weights of another architecture, or go by other names than timm's";
  return text;
}

/// Every problem counted, the first ones of each kind in full; "" when there is none.
std::string problems(const Backbone& backbone, const std::map<std::string, at::Tensor>& wanted,
                     const std::map<std::string, at::Tensor>& state) {
  constexpr std::size_t kMaxLines = 18;
  const std::vector<std::string> missing = names_only_in(wanted, state),
                                 unexpected = names_only_in(state, wanted);
  std::vector<std::string> misfits;
  for (const auto& [name, tensor] : wanted) {
    const auto given = state.find(name);
    if (given == state.end()) continue;
    if (std::string text = misfit(backbone, name, given->second, tensor); !text.empty())
      misfits.push_back(std::move(text));
  }
  const std::size_t num_kinds = !missing.empty() + !misfits.empty() + !unexpected.empty();
  if (num_kinds == 0) return "";
  std::string text = summary(wanted, state, missing.size(), misfits.size()) + ":";
  const auto list = [&](const std::vector<std::string>& items, const char* kind, const auto& line) {
    const std::size_t num_shown = std::min(items.size(), kMaxLines / num_kinds);
    for (std::size_t i = 0; i < num_shown; ++i) text += "\n  " + line(items[i]);
    if (num_shown < items.size())
      text += fmt::format("\n  ... and {} more {}", items.size() - num_shown, kind);
  };
  list(missing, "missing", [&](const std::string& name) {
    return fmt::format("{}: missing.{}", name, did_you_mean(name, unexpected));
  });
  list(misfits, "of another shape or dtype", [](const std::string& line) { return line; });
  list(unexpected, "that are not this model's", [&](const std::string& name) {
    return fmt::format("{}: not a tensor of this model.{}", shown(name), did_you_mean(name, missing));
  });
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
    throw DataError(fmt::format("{} does not fit {}: {}", origin, backbone.config().name, text));
  }
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : wanted) tensor.copy_(state.at(name));
}

}  // namespace cosub::model
