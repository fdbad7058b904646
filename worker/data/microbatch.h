// What the data path hands to training: a microbatch, the rows that go through the model together. It is a
// pure function of (stream, step, index), whatever rank, thread or attempt makes it. A Microbatch owns its
// tensors.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cosub::data {

struct Microbatch {
  std::int64_t step = 0;                 // optimizer step, from 0
  std::int64_t index = 0;                // within the step's list of microbatches, from 0
  at::Tensor images;                     // [B, C, S, S] float32, normalised, mixed
  at::Tensor targets;                    // [B, classes] float32, mixed, smoothed (and binarised)
  std::int64_t bad_samples = 0;          // that were replaced by the next sample of the epoch's order
  std::vector<std::string> bad_reasons;  // one for each of them: file, sample, what is wrong
};

}  // namespace cosub::data
