// For test binaries that run under mpirun: the job's communicator, connected by mpi_main.cpp before the
// tests.
#pragma once

#include "worker/collective/communicator.h"

namespace cosub::testing {

collective::Communicator& world();

}  // namespace cosub::testing
