// What a device could do at most, to set a model's rate against: measured on a CPU, looked up for a GPU.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <string_view>

#include "common/config/pipeline.h"

namespace cosub::tools {

struct Peak {
  double flops = 0;    // a second; 0: not known
  std::string origin;  // how it is known, for people
};

/// CPU: the best of a few large matrix products with the threads that LibTorch has now; about half a second.
/// For bf16 the better of products of bfloat16 and of float32, since a CPU may have no units for the former.
/// GPU: the maker's number for dense products, by the device's name.
Peak peak_of(at::Device device, config::Precision precision);

/// The maker's dense peak by the name the driver gives; flops 0 where the name is not known.
Peak known_gpu_peak(std::string_view name, config::Precision precision);

/// Name of this host's GPU of that index, from /proc/driver/nvidia; empty where there is none.
std::string gpu_name(int index);

}  // namespace cosub::tools
