#include "worker/data/eval_batch.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include "worker/data/transform.h"

namespace cosub::data {

EvalBatch make_eval_batch(const Source& source, const config::DataConfig& data, std::int64_t image_size,
                          std::int64_t first, std::int64_t count) {
  const at::NoGradGuard no_grad;
  const std::int64_t channels = source.channels(), row_size = channels * image_size * image_size;
  const EvalTransform transform(data, channels, image_size);
  ImageBuffers buffers;
  EvalBatch batch{at::empty({count, channels, image_size, image_size}, at::kFloat),
                  at::empty({count}, at::kLong)};
  float* row = batch.images.mutable_data_ptr<float>();
  std::int64_t* labels = batch.labels.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    const StoredImage stored = source.read(first + i, buffers.stored);
    naming(source, first + i, [&] { transform.apply(stored, buffers, row + i * row_size); });
    labels[i] = source.label(first + i);
  }
  return batch;
}

}  // namespace cosub::data
