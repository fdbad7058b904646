#include "worker/model/cost.h"

#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <set>
#include <string_view>

namespace cosub::model {
namespace {

thread_local std::int64_t multiply_adds = 0;

std::int64_t numel_of(const c10::IValue& value) {
  return value.toTensor().numel();
}
std::int64_t last_size_of(const c10::IValue& value) {
  return value.toTensor().size(-1);
}

/// Rows and columns of the output times what is summed over. Names are those of the operators that are left
/// after LibTorch's own decompositions.
std::int64_t multiply_adds_of(const at::RecordFunction& function) {
  static constexpr std::array<std::string_view, 7> kCounted = {
      "aten::mm",
      "aten::bmm",
      "aten::addmm",
      "aten::baddbmm",
      "aten::_scaled_dot_product_flash_attention_for_cpu",
      "aten::convolution",
      "cosub::self_attention"};
  const std::string_view name = function.name();
  if (std::find(kCounted.begin(), kCounted.end(), name) == kCounted.end()) return 0;
  const c10::ArrayRef<const c10::IValue> inputs = function.inputs();  // others may have none to show
  if (name == "aten::mm" || name == "aten::bmm") return numel_of(inputs[0]) * last_size_of(inputs[1]);
  if (name == "aten::addmm" || name == "aten::baddbmm") return numel_of(inputs[1]) * last_size_of(inputs[2]);
  if (name == "aten::_scaled_dot_product_flash_attention_for_cpu") {
    const at::Tensor query = inputs[0].toTensor(), key = inputs[1].toTensor();
    return 2 * query.numel() * key.size(-2);
  }
  if (name == "cosub::self_attention") {
    const at::Tensor qkv = inputs[0].toTensor();  // [N, tokens, 3, heads, D]
    return 2 * (qkv.numel() / 3) * qkv.size(1);
  }
  const at::Tensor x = inputs[0].toTensor(), weight = inputs[1].toTensor();
  const std::vector<std::int64_t> stride = inputs[3].toIntVector(), padding = inputs[4].toIntVector();
  std::int64_t positions = x.size(0);
  for (std::size_t i = 0; i < 2; ++i) {
    const auto dim = static_cast<std::int64_t>(i) + 2;
    positions *= (x.size(dim) + 2 * padding[i] - weight.size(dim)) / stride[i] + 1;
  }
  return positions * weight.numel();
}

std::unique_ptr<at::ObserverContext> count(const at::RecordFunction& function) {
  multiply_adds += multiply_adds_of(function);
  return nullptr;
}

/// Bytes that are allocated on this thread and not yet freed.
class LiveBytes : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void* /*pointer*/, std::int64_t size, std::size_t /*allocated*/,
                         std::size_t /*reserved*/, c10::Device /*device*/) override {
    bytes += size;
  }
  bool memoryProfilingEnabled() const override { return true; }

  std::int64_t bytes = 0;
};

at::Tensor random_images(const Backbone& backbone, std::int64_t images) {
  const config::ModelConfig& config = backbone.config();
  return at::randn({images, config.channels, config.image_size, config.image_size});
}

std::int64_t activation_bytes(Backbone& backbone, std::int64_t images) {
  const at::Tensor input = random_images(backbone, images);
  Pass pass;
  pass.images = images;
  backbone.seam().begin(pass);
  const auto live = std::make_shared<LiveBytes>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
  const at::Tensor logits = backbone.forward(input);
  return live->bytes;
}

/// Those of the operators that `work` runs on this thread.
template <typename Work>
std::int64_t counted(const Work& work) {
  multiply_adds = 0;
  const at::CallbackHandle handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(count).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  work();
  at::removeCallback(handle);
  return multiply_adds;
}

/// Where the batch statistics of the forward passes go, which nobody reads.
at::Tensor ready_to_train(Backbone& backbone) {
  backbone.train();
  const at::Tensor statistics = at::zeros({backbone.batch_statistics().size()});
  backbone.batch_statistics().write_to(statistics);
  return statistics;
}

std::int64_t counted_pass(Backbone& backbone, const Pass& pass) {
  const at::Tensor images = random_images(backbone, pass.images);
  backbone.seam().begin(pass);
  return counted([&] { backbone.forward(images); });
}

/// As many of the first rows for each branch that drops some and for which `more` holds, one less for others.
template <typename More>
Pass with_rows(Pass pass, std::int64_t rows, const More& more) {
  for (KeptRows::Branch& branch : pass.kept.branches) {
    if (branch.all) continue;
    const std::int64_t count = more(static_cast<std::int64_t>(branch.rows.size())) ? rows : rows - 1;
    branch.rows.resize(static_cast<std::size_t>(count));
    std::iota(branch.rows.begin(), branch.rows.end(), 0);
  }
  return pass;
}

}  // namespace

Cost measure_cost(Backbone& backbone) {
  constexpr std::int64_t kImages = 2;
  const at::Tensor statistics = ready_to_train(backbone);
  Cost cost;
  std::int64_t bytes = 0;
  cost.multiply_adds = counted([&] { bytes = activation_bytes(backbone, kImages); }) / kImages;
  cost.activation_bytes_per_row = activation_bytes(backbone, kImages + 1) - bytes;
  return cost;
}

/// Rows cost the same each, so that a few tell what many cost: a pass with 2 rows in each branch that drops
/// some, one with an image more (what does not depend on the images, such as XCiT's positions, is run once),
/// and for those that keep n rows one with 3.
std::int64_t multiply_adds_of_pass(Backbone& backbone, const Pass& pass) {
  constexpr std::int64_t kImages = 3;
  const at::NoGradGuard no_grad;
  const at::Tensor statistics = ready_to_train(backbone);
  Pass few = pass;
  few.images = kImages;
  few.rows = at::Tensor();
  std::set<std::int64_t> kept;
  for (const KeptRows::Branch& branch : pass.kept.branches)
    if (!branch.all) kept.insert(static_cast<std::int64_t>(branch.rows.size()));
  const auto none = [](std::int64_t) { return false; };
  const std::int64_t least = counted_pass(backbone, with_rows(few, kImages, none));
  Pass one_more = few;
  one_more.images = kImages + 1;
  const std::int64_t an_image = counted_pass(backbone, with_rows(one_more, kImages, none)) - least;
  std::int64_t sum = least + (pass.images - kImages) * an_image;
  for (const std::int64_t n : kept) {
    const auto those = [n](std::int64_t count) { return count == n; };
    const std::int64_t a_row = counted_pass(backbone, with_rows(few, kImages, those)) - least;
    sum += (n - (kImages - 1)) * a_row;
  }
  return sum;
}

}  // namespace cosub::model
