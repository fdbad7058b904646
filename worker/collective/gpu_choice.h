// Which GPU of its host a rank takes. Apart from CUDA, so that it can be tested on any machine.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cosub::collective {

/// Of `num_devices` that a rank sees: that of its place among the ranks of its host, or the only one, which
/// the job may have given to it alone (srun --gpus-per-task=1). -1: there are too few.
inline int gpu_of(std::int64_t local_rank, int num_devices) {
  if (num_devices == 1) return 0;
  return local_rank < num_devices ? static_cast<int>(local_rank) : -1;
}

/// gpus: by rank, host and address of its GPU. "" or why `rank` cannot work beside the others.
inline std::string shared_gpu(const std::vector<std::string>& gpus, std::int64_t rank) {
  const std::string& mine = gpus.at(static_cast<std::size_t>(rank));
  for (std::size_t other = 0; other < gpus.size(); ++other) {
    if (static_cast<std::int64_t>(other) == rank || gpus[other] != mine) continue;
    return fmt::format(
        "it would share the only GPU that it sees ({}) with rank {}: start one rank for each GPU, and let "
        "each see one of its own or all of the host's",
        mine, other);
  }
  return "";
}

}  // namespace cosub::collective
