#include "worker/train/evaluator.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "worker/data/eval_loader.h"

namespace cosub::train {
namespace {

struct BatchResult {
  std::int64_t top1 = 0, top5 = 0, images = 0;
  double loss_sum = 0;
};

at::Device device_of(model::Backbone& model) {
  std::vector<at::Tensor> parameters = model.parameters();
  return parameters.empty() ? at::Device(at::kCPU) : parameters.front().device();
}

BatchResult evaluate_batch(model::Backbone& model, const data::EvalBatch& batch, model::Pass pass) {
  pass.images = batch.images.size(0);
  model.seam().begin(pass);
  at::Tensor logits = model.forward(batch.images).to(at::kCPU, at::kDouble);
  at::Tensor labels = batch.labels.unsqueeze(1);
  at::Tensor best = std::get<1>(logits.topk(std::min<std::int64_t>(5, logits.size(1)), 1)).eq(labels);
  BatchResult result;
  result.images = pass.images;
  result.top1 = best.narrow(1, 0, 1).sum().item<std::int64_t>();
  result.top5 = best.sum().item<std::int64_t>();
  result.loss_sum = -logits.log_softmax(1).gather(1, labels).sum().item<double>();
  return result;
}

}  // namespace

collective::Range share_of(std::int64_t rank, std::int64_t world_size, std::int64_t count) {
  return {rank * count / world_size, (rank + 1) * count / world_size};
}

EvalResult evaluate(model::Backbone& model, collective::Communicator& communicator,
                    const Evaluation& evaluation) {
  std::int64_t size = evaluation.source->size();
  std::int64_t batches = (size + evaluation.batch_images - 1) / evaluation.batch_images;
  collective::Range own = share_of(communicator.rank(), communicator.world_size(), batches);
  std::int64_t counts[3] = {};
  std::vector<double> losses(static_cast<std::size_t>(batches), 0.0);

  bool was_training = model.is_training();
  model.eval();
  {
    c10::InferenceMode no_gradients;
    data::EvalLoader loader(evaluation.source, {.data = evaluation.data,
                                                .image_size = model.config().image_size,
                                                .num_images = size,
                                                .batch_images = evaluation.batch_images,
                                                .begin = own.begin,
                                                .end = own.end,
                                                .device = device_of(model)});
    for (std::int64_t b = own.begin; b < own.end; ++b) {
      BatchResult result = evaluate_batch(model, loader.next(), evaluation.pass);
      counts[0] += result.top1;
      counts[1] += result.top5;
      counts[2] += result.images;
      losses[static_cast<std::size_t>(b)] = result.loss_sum;
      if (evaluation.on_progress)
        evaluation.on_progress(static_cast<double>(b + 1 - own.begin) /
                               static_cast<double>(own.end - own.begin));
    }
  }
  model.train(was_training);
  if (own.begin == own.end && evaluation.on_progress) evaluation.on_progress(1);

  // Adding zeros is exact, so each batch's loss arrives as its one owner computed it.
  at::Device device = device_of(model);
  at::Tensor all_counts = at::from_blob(counts, {3}, at::kLong).clone().to(device);
  at::Tensor all_losses = at::from_blob(losses.data(), {batches}, at::kDouble).clone().to(device);
  communicator.all_reduce_sum(all_counts, "counts of the evaluation");
  communicator.all_reduce_sum(all_losses, "losses of the evaluation");
  all_counts = all_counts.cpu();
  all_losses = all_losses.cpu();
  communicator.check();

  EvalResult result;
  result.images = all_counts[2].item<std::int64_t>();
  double images = static_cast<double>(std::max<std::int64_t>(1, result.images));
  result.top1 = static_cast<double>(all_counts[0].item<std::int64_t>()) / images;
  result.top5 = static_cast<double>(all_counts[1].item<std::int64_t>()) / images;
  const double* loss = all_losses.const_data_ptr<double>();
  for (std::int64_t b = 0; b < batches; ++b) result.loss += loss[b] / images;
  return result;
}

}  // namespace cosub::train
