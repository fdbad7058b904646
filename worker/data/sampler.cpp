#include "worker/data/sampler.h"

#include <algorithm>
#include <stdexcept>

namespace cosub::data {

Sampler::Sampler(std::uint64_t stream, std::int64_t size, const std::optional<ShuffleWindow>& window)
    : size_(size), full_(stream, size) {
  if (window) windowed_ = windowed(stream, size, *window);
}

Sampler::Windowed Sampler::windowed(std::uint64_t stream, std::int64_t size, ShuffleWindow shape) {
  if (shape.block_samples < 1 || shape.blocks < 1) throw std::logic_error("Sampler: an empty window");
  shape.block_samples = std::min(shape.block_samples, size);
  const std::int64_t num_blocks = (size + shape.block_samples - 1) / shape.block_samples;
  shape.blocks = std::min(shape.blocks, num_blocks);
  const std::int64_t rest = std::max<std::int64_t>(1, num_blocks % shape.blocks);
  return {shape, num_blocks / shape.blocks, Permutation(stream, num_blocks, 1),
          Permutation(stream, shape.blocks * shape.block_samples, 2),
          Permutation(stream, rest * shape.block_samples, 3)};
}

/// Over the domain of whole blocks: [0, num_blocks * block_samples).
std::int64_t Sampler::Windowed::at(std::int64_t epoch, std::int64_t position) const {
  const std::int64_t in_window = samples.size(), window = position / in_window;
  const Permutation& inside = window < whole_windows ? samples : rest;
  const std::int64_t place = inside.at(epoch, position % in_window, window);
  const std::int64_t slot = window * shape.blocks + place / shape.block_samples;
  return blocks.at(epoch, slot) * shape.block_samples + place % shape.block_samples;
}

std::int64_t Sampler::sample(std::int64_t epoch, std::int64_t position) const {
  if (position < 0 || position >= size_) throw std::logic_error("Sampler: position outside the epoch");
  if (!windowed_) return full_.at(epoch, position);
  // The last block may be a partial one: walking past what it lacks keeps this a permutation.
  std::int64_t value = position;
  do {
    value = windowed_->at(epoch, value);
  } while (value >= size_);
  return value;
}

}  // namespace cosub::data
