#include "worker/model/weights.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cmath>

#include "common/error.h"
#include "common/text.h"

namespace cosub::model {
namespace {

std::string shape_text(const at::Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes(), ", "));
}

/// Prefix tokens aside, a square number of positions; 0 when it is not.
std::int64_t grid_side(const at::Tensor& embedding, std::int64_t prefix_tokens) {
  if (embedding.dim() != 3 || embedding.size(0) != 1) return 0;
  const std::int64_t positions = embedding.size(1) - prefix_tokens;
  const auto side = static_cast<std::int64_t>(
      std::llround(std::sqrt(static_cast<double>(std::max<std::int64_t>(positions, 0)))));
  return side * side == positions ? side : 0;
}

void resample_if_needed(const Backbone& backbone, std::map<std::string, at::Tensor>& state) {
  const PositionGrid grid = backbone.position_grid();
  const auto found = state.find("pos_embed");
  if (grid.side == 0 || found == state.end()) return;
  const std::int64_t old_side = grid_side(found->second, grid.prefix_tokens);
  if (old_side == 0 || old_side == grid.side) return;
  spdlog::info("pos_embed resampled from {}x{} to {}x{} positions", old_side, old_side, grid.side, grid.side);
  found->second = resample_position_embedding(found->second, grid.prefix_tokens, grid.side);
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

at::Tensor resample_position_embedding(const at::Tensor& embedding, std::int64_t prefix_tokens,
                                       std::int64_t side) {
  const std::int64_t old_side = grid_side(embedding, prefix_tokens), dim = embedding.size(2);
  const at::Tensor prefix = embedding.narrow(1, 0, prefix_tokens);
  const at::Tensor grid = embedding.narrow(1, prefix_tokens, old_side * old_side)
                              .to(at::kFloat)
                              .reshape({1, old_side, old_side, dim})
                              .permute({0, 3, 1, 2});
  const std::array<std::int64_t, 2> size = {side, side};
  const at::Tensor resampled = at::_upsample_bicubic2d_aa(grid, size, /*align_corners=*/false);
  const at::Tensor positions = resampled.permute({0, 2, 3, 1}).reshape({1, side * side, dim});
  return at::cat({prefix, positions.to(embedding.scalar_type())}, 1);
}

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
