// What LibTorch's profiler (Kineto) saw: a trace that Perfetto and chrome://tracing open, and a table of the
// operators, or on a GPU of the kernels, that took the most time.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "worker/tools/device_use.h"

namespace cosub::tools {

struct OperatorTime {
  std::string name;
  double seconds = 0;  // of its own, without those of the operators that it calls
  std::int64_t calls = 0;
};

struct OperatorTrace {
  std::vector<OperatorTime> operators;  // on a GPU its kernels; the longest first
  DeviceUse device;                     // of a GPU
};

/// Runs `work` under the profiler and writes the trace to `file`, which is replaced. IoError.
OperatorTrace trace_operators(const std::filesystem::path& file, at::Device device,
                              const std::function<void()>& work);

/// A table of the first `most`, times and calls a step, where `steps` were traced.
std::string operator_table(const std::vector<OperatorTime>& operators, std::int64_t steps, std::size_t most);

}  // namespace cosub::tools
