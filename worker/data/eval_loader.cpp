#include "worker/data/eval_loader.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "worker/data/inputs.h"
#include "worker/data/normalize.h"
#include "worker/data/picture_reader.h"
#include "worker/data/prefetch.h"
#include "worker/data/transform.h"

namespace cosub::data {
namespace {

struct PreparedBatch {
  EvalBatch batch;
  PixelRows rows;  // pixels undefined: batch.images is there
};

/// A validation set is read once at a time: what a cache would hold is better used for training.
config::DataConfig without_cache(config::DataConfig data) {
  data.cache_gib = 0;
  return data;
}

/// What the threads share; lives as long as the last of them.
struct Work {
  Work(std::shared_ptr<const Source> source_in, const EvalLoader::Options& options_in)
      : source(std::move(source_in)),
        options(options_in),
        reader(*source, without_cache(options.data)),
        transform(options.data, source->channels(), options.image_size),
        normalizer(options.data, source->channels()),
        device_inputs(options.device, options.data, source->channels()) {}

  PreparedBatch make(std::int64_t number, Activity& activity) {
    thread_local ImageBuffers buffers;
    const at::NoGradGuard no_grad;
    const std::int64_t first = number * options.batch_images;
    const std::int64_t count = std::min(options.batch_images, options.num_images - first);
    const std::int64_t channels = source->channels(), size = options.image_size;
    const bool makes_inputs = options.device.is_cpu();

    PreparedBatch prepared;
    EvalBatch& batch = prepared.batch;
    batch.labels = at::empty({count}, at::kLong);
    if (makes_inputs) {
      batch.images = pool.take({count, channels, size, size}, at::kFloat);
    } else {
      prepared.rows.pixels = device_inputs.take_pixels({count, size, size, channels});
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const StoredImage stored = reader.read(first + i, buffers, activity);
      reader.naming(first + i, activity, [&] { transform.apply(stored, buffers); });
      batch.labels.mutable_data_ptr<std::int64_t>()[i] = source->label(first + i);
      const std::int64_t row = i * channels * size * size;
      if (makes_inputs) {
        normalizer.apply(buffers.a, batch.images.mutable_data_ptr<float>() + row);
      } else {
        std::memcpy(prepared.rows.pixels.mutable_data_ptr<std::uint8_t>() + row, buffers.a.pixels.data(),
                    channels * size * size);
      }
    }
    if (!makes_inputs) device_inputs.send(prepared.rows);
    return prepared;
  }

  const std::shared_ptr<const Source> source;
  const EvalLoader::Options options;
  const PictureReader reader;
  const EvalTransform transform;
  const Normalizer normalizer;
  TensorPool pool;
  DeviceInputs device_inputs;
};

}  // namespace

struct EvalLoader::Impl {
  Impl(std::shared_ptr<const Source> source, const Options& options)
      : work(std::make_shared<Work>(std::move(source), options)),
        prefetcher(
            {.count = options.end - options.begin,
             .threads = options.data.loader_threads,
             .ahead = options.prefetch,
             .read_limit = options.data.read_timeout},
            [work = work](std::int64_t item, Activity& activity) {
              return work->make(work->options.begin + item, activity);
            },
            [work = work](std::int64_t sample) { return work->source->place(sample); }) {}

  std::shared_ptr<Work> work;
  Prefetcher<PreparedBatch> prefetcher;
};

EvalLoader::EvalLoader(std::shared_ptr<const Source> source, const Options& options)
    : impl_(std::make_unique<Impl>(std::move(source), options)) {}
EvalLoader::~EvalLoader() = default;

EvalBatch EvalLoader::next() {
  PreparedBatch prepared = impl_->prefetcher.next();
  if (!prepared.batch.images.defined()) {
    const at::NoGradGuard no_grad;
    prepared.batch.images = impl_->work->device_inputs.receive(std::move(prepared.rows));
  }
  return std::move(prepared.batch);
}

}  // namespace cosub::data
