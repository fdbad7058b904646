// Which sample stands where: the order of each epoch, and how steps and microbatches divide it. Every place
// is computed from its numbers alone, so any position can be entered at once. Values without state;
// thread-safe.
#pragma once

#include <cstdint>
#include <optional>

#include "worker/data/permutation.h"

namespace cosub::data {

/// Shuffling for storage that is slow at random reads: blocks of `block_samples` neighbouring samples are
/// permuted over the epoch, then the samples within each window of `blocks` of them.
struct ShuffleWindow {
  std::int64_t block_samples = 0, blocks = 0;
};

/// The epoch's order: position -> sample, a permutation keyed by (stream, epoch).
class Sampler {
 public:
  /// size > 0. Without a window any sample can stand anywhere.
  Sampler(std::uint64_t stream, std::int64_t size, const std::optional<ShuffleWindow>& window = std::nullopt);
  /// `position` in [0, size).
  std::int64_t sample(std::int64_t epoch, std::int64_t position) const;

 private:
  struct Windowed {
    ShuffleWindow shape;
    std::int64_t whole_windows;         // those with all their blocks
    Permutation blocks, samples, rest;  // rest: the samples of the last, smaller window, where there is one
    std::int64_t at(std::int64_t epoch, std::int64_t position) const;
  };
  static Windowed windowed(std::uint64_t stream, std::int64_t size, ShuffleWindow shape);

  std::int64_t size_;
  Permutation full_;
  std::optional<Windowed> windowed_;
};

/// Where steps lie: an epoch has floor(size / global) steps (the rest of its order is dropped; the next
/// epoch's order is another one), and step s is in epoch s / steps_per_epoch.
///
/// Repeated augmentation (Hoffer et al., arXiv 1901.09335; DeiT's RASampler): each position of the order
/// fills `repeats` places in a row of the epoch, each in another microbatch, and the epoch keeps its number
/// of steps, so it sees size / repeats samples. A sample whose places lie across the end of a step has the
/// rest in the next one.
struct StepPlan {
  std::int64_t size = 0, global = 0, micro = 0;
  std::int64_t repeats = 1;  // at most microbatches()

  /// One row of a microbatch: the position in the epoch's order, and what keys its own draws.
  struct Place {
    std::int64_t position = 0;
    std::int64_t draw = 0;  // in [0, steps_per_epoch * global); another one for each repeat
  };

  std::int64_t steps_per_epoch() const { return size / global; }
  std::int64_t microbatches() const { return global / micro; }
  std::int64_t epoch_of(std::int64_t step) const { return step / steps_per_epoch(); }
  Place place(std::int64_t step, std::int64_t microbatch, std::int64_t row) const {
    // Without repeats a microbatch is a run of the order; with them neighbours go to different microbatches.
    const std::int64_t in_step = repeats == 1 ? microbatch * micro + row : row * microbatches() + microbatch;
    const std::int64_t draw = step % steps_per_epoch() * global + in_step;
    return {draw / repeats, draw};
  }
};

}  // namespace cosub::data
