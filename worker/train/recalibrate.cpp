#include "worker/train/recalibrate.h"

#include <fmt/format.h>

#include "common/error.h"
#include "worker/data/eval_loader.h"

namespace cosub::train {

void recalibrate_batch_norm(model::Backbone& model, const std::shared_ptr<const data::Source>& source,
                            const config::DataConfig& data, model::Pass pass, std::int64_t num_images) {
  constexpr std::int64_t kBatchImages = 100;
  model::BatchStatistics& statistics = model.batch_statistics();
  if (statistics.layers().empty()) return;
  if (num_images < 2 || num_images > source->size()) {
    throw ConfigError(
        fmt::format("recalibrate-bn: found {}; allowed: 2 to {}, the number of calibration images",
                    num_images, source->size()));
  }
  const at::NoGradGuard no_grad;
  const bool was_training = model.is_training();
  model.train();
  const at::TensorOptions options = statistics.layers().front()->running_mean.options();
  const at::Tensor batch_statistics = at::zeros({statistics.size()}, options),
                   sum = at::zeros_like(batch_statistics);
  const std::int64_t num_batches = (num_images + kBatchImages - 1) / kBatchImages;
  data::EvalLoader loader(source, {.data = data,
                                   .image_size = model.config().image_size,
                                   .num_images = num_images,
                                   .batch_images = kBatchImages,
                                   .end = num_batches,
                                   .device = options.device()});
  for (std::int64_t b = 0; b < num_batches; ++b) {
    const data::EvalBatch batch = loader.next();
    const std::int64_t count = batch.images.size(0);
    statistics.write_to(batch_statistics);
    pass.images = count;
    model.seam().begin(pass);
    model.forward(batch.images);
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
