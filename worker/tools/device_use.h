// How a GPU spent a stretch of time, from when its kernels ran: how long it was busy, and how much of the
// communication between ranks nothing else ran beside (exposed), which is what a step waits for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cosub::tools {

struct KernelRun {
  std::uint64_t begin_ns = 0, end_ns = 0;
  bool communicates = false;  // NCCL's; or it computes, or copies
};

/// Seconds. A kernel of NCCL counts while it waits for other ranks, too.
struct DeviceUse {
  double span = 0;           // from the first kernel's begin to the last one's end
  double busy = 0;           // at least one runs
  double communication = 0;  // at least one of NCCL's runs,
  double exposed = 0;        // and no other
};

/// In any order, of all streams.
DeviceUse device_use(const std::vector<KernelRun>& runs);

bool is_communication(const std::string& kernel);

/// One line, for one of `steps`; "" where nothing ran.
std::string device_use_text(const DeviceUse& use, std::int64_t steps);

}  // namespace cosub::tools
