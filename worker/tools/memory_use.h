// What a piece of work takes in memory: of the process, as the kernel counts it, and of tensors, as their
// allocators report it (the same from run to run). Used by the thread that does the work.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>

namespace cosub::tools {

std::int64_t resident_bytes();        // of this process, now
std::int64_t peak_resident_bytes();   // since its start
std::int64_t available_host_bytes();  // of memory, to all processes, without swapping

/// Runs `work` and returns the largest sum of bytes that tensors on this kind of device held at any time in
/// it, less what they held before. Counts what this thread and backward passes that it starts allocate; what
/// libraries take for themselves is not in it.
std::int64_t peak_tensor_bytes(c10::DeviceType device, const std::function<void()>& work);

/// Bytes of tensors on a GPU at most, since the start; 0 on a CPU.
std::int64_t device_peak_bytes(c10::Device device);

}  // namespace cosub::tools
