// What the data path hands to training: a microbatch, the rows that go through the model together. It is a
// pure function of (stream, step, index), whatever rank, thread or attempt makes it. A Microbatch owns its
// tensors.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cosub::data {

/// A sample that could not be decoded; the next one of the epoch's order stands in its place.
struct BadSample {
  std::int64_t index = 0;  // in its source
  std::string reason;      // file, sample, what is wrong
  std::string cause = {};  // where all samples of its shard share it: the shard, what is wrong
  bool operator==(const BadSample&) const = default;
};

struct Microbatch {
  std::int64_t step = 0;   // optimizer step, from 0
  std::int64_t index = 0;  // within the step's list of microbatches, from 0
  at::Tensor images;       // [B, C, S, S] float32 on the model's device: normalised, erased, mixed
  at::Tensor targets;      // [B, classes] float32 on CPU: mixed, smoothed (and binarised)
  std::vector<BadSample> bad;
};

}  // namespace cosub::data
