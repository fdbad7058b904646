#include "worker/train/precision.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>

namespace cosub::train {

void set_product_precision(config::Precision precision) {
  const bool tf32 = precision != config::Precision::kFp32;
  at::globalContext().setFloat32MatmulPrecision(tf32 ? "high" : "highest");
  at::globalContext().setAllowTF32CuDNN(tf32);
}

AutocastScope::AutocastScope(config::Precision precision, at::Device device)
    : device_(device.type()), on_(precision == config::Precision::kBf16) {
  if (!on_) return;
  was_enabled_ = at::autocast::is_autocast_enabled(device_);
  dtype_before_ = at::autocast::get_autocast_dtype(device_);
  was_caching_ = at::autocast::is_autocast_cache_enabled();
  at::autocast::set_autocast_enabled(device_, true);
  at::autocast::set_autocast_dtype(device_, at::kBFloat16);
  at::autocast::set_autocast_cache_enabled(false);
  at::autocast::increment_nesting();
}

AutocastScope::~AutocastScope() {
  if (!on_) return;
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_cache_enabled(was_caching_);
  at::autocast::set_autocast_dtype(device_, dtype_before_);
  at::autocast::set_autocast_enabled(device_, was_enabled_);
}

}  // namespace cosub::train
