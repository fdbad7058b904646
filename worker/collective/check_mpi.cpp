#include "worker/collective/check_mpi.h"

#include <fmt/format.h>
#include <mpi.h>

#include <cstring>

#include "common/error.h"

namespace cosub::collective {

void check_mpi(int result, std::source_location where) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING + 1] = {};
  int length = 0;
  if (MPI_Error_string(result, text, &length) != MPI_SUCCESS) std::strcpy(text, "unknown MPI error");
  throw CollectiveError(
      fmt::format("MPI failed: {} (code {}, {}:{})", text, result, where.file_name(), where.line()));
}

}  // namespace cosub::collective
