#pragma once

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

namespace cosub::testing {

/// Autocast to bfloat16 on a device, as worker/train/precision.h sets it.
class AutocastOn {
 public:
  explicit AutocastOn(at::Device device) : type_(device.type()) {
    at::autocast::set_autocast_enabled(type_, true);
    at::autocast::set_autocast_dtype(type_, at::kBFloat16);
    at::autocast::set_autocast_cache_enabled(false);
    at::autocast::increment_nesting();
  }
  ~AutocastOn() {
    at::autocast::decrement_nesting();
    at::autocast::set_autocast_cache_enabled(true);
    at::autocast::set_autocast_enabled(type_, false);
  }
  AutocastOn(const AutocastOn&) = delete;
  AutocastOn& operator=(const AutocastOn&) = delete;

 private:
  at::DeviceType type_;
};

}  // namespace cosub::testing
