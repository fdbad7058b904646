#include "worker/train/recalibrate.h"

#include <fmt/format.h>

#include "common/error.h"
#include "worker/data/eval_batch.h"

namespace cosub::train {

void recalibrate_batch_norm(model::Backbone& model, const data::Source& source,
                            const config::DataConfig& data, model::Pass pass, std::int64_t num_images) {
  constexpr std::int64_t kBatchImages = 100;
  model::BatchStatistics& statistics = model.batch_statistics();
  if (statistics.layers().empty()) return;
  if (num_images < 2 || num_images > source.size()) {
    throw ConfigError(
        fmt::format("recalibrate-bn: found {}; allowed: 2 to {}, the number of calibration images",
                    num_images, source.size()));
  }
  const at::NoGradGuard no_grad;
  const bool was_training = model.is_training();
  model.train();
  const at::TensorOptions options = statistics.layers().front()->running_mean.options();
  const at::Tensor batch_statistics = at::zeros({statistics.size()}, options),
                   sum = at::zeros_like(batch_statistics);
  for (std::int64_t first = 0; first < num_images; first += kBatchImages) {
    const std::int64_t count = std::min(kBatchImages, num_images - first);
    const data::EvalBatch batch =
        data::make_eval_batch(source, data, model.config().image_size, first, count);
    statistics.write_to(batch_statistics);
    pass.images = count;
    model.seam().begin(pass);
    model.forward(batch.images.to(options.device()));
    sum.add_(batch_statistics, static_cast<double>(count) / static_cast<double>(num_images));
  }
  std::int64_t offset = 0;
  for (model::BatchNorm2d* const layer : statistics.layers()) {
    const std::int64_t channels = layer->running_mean.size(0);
    layer->running_mean.copy_(sum.narrow(0, offset, channels));
    layer->running_var.copy_(sum.narrow(0, offset + channels, channels));
    offset += 2 * channels;
  }
  model.train(was_training);
}

}  // namespace cosub::train
