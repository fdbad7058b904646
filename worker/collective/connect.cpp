#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <memory>

#include "common/error.h"
#include "worker/collective/communicator.h"
#include "worker/collective/mpi_communicator.h"
#include "worker/collective/single_communicator.h"

namespace cosub::collective {
namespace {

bool started_by_mpi() {
  // Set for each rank by Open MPI's mpirun, by anything that speaks PMIx (srun --mpi=pmix), and by MPICH's
  // launchers.
  constexpr std::array kNames = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
  for (const char* name : kNames) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

// Without MPI each task of such a step would believe to be alone, and all would write the same run.
void refuse_srun_without_mpi() {
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  if (tasks == nullptr || std::atoi(tasks) <= 1) return;
  throw ConfigError(fmt::format(
      "srun started {} tasks without MPI, so that each would train alone; use srun --mpi=pmix", tasks));
}

}  // namespace

std::unique_ptr<Communicator> connect(std::chrono::milliseconds limit) {
  if (started_by_mpi()) return std::make_unique<MpiCommunicator>(limit);
  refuse_srun_without_mpi();
  return std::make_unique<SingleCommunicator>();
}

}  // namespace cosub::collective
