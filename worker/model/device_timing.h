// How long something takes on a device, to choose between ways to compute it.
#pragma once

#include <ATen/ATen.h>

#include <functional>

namespace cosub::model {

/// Seconds of one run after a warm-up; on a GPU the least of some repetitions, by its own clock. Waits for
/// the device; not within a capture. Throws what `run` throws.
double least_seconds(at::Device device, const std::function<void()>& run);

}  // namespace cosub::model
