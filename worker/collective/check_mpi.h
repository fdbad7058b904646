// What an MPI call answered, as an error.
#pragma once

#include <source_location>

namespace cosub::collective {

/// CollectiveError with MPI's own words and our source line when `result` is not MPI_SUCCESS.
void check_mpi(int result, std::source_location where = std::source_location::current());

}  // namespace cosub::collective
