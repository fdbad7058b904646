// The mpirun command line of an attempt and the environment it runs in, as pure functions. Used by the
// backend (to show and to record them) and by the wrapper (to run them), so that what is shown is what runs.
// Open MPI 4.1.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "launcher/backends/backend.h"

namespace cosub::launcher {

/// mpirun with all its options, then the worker's argv.
std::vector<std::string> mpirun_command(const LaunchSpec& spec);

/// What every rank gets: the LaunchSpec's environment, COSUB_ATTEMPT, and OMP_WAIT_POLICY=passive unless
/// given.
std::map<std::string, std::string> rank_environment(const LaunchSpec& spec);

/// What mpirun itself gets: COSUB_ATTEMPT, and leave to run as root where `as_root`.
std::map<std::string, std::string> mpirun_environment(const LaunchSpec& spec, bool as_root);

/// Of the names in `environment`, those that would make mpirun think it is inside somebody else's job (a
/// batch allocation, or an MPI job that cosub itself was started from) and must not be inherited. A site's
/// own OMPI_MCA_* settings stay, unless they were set by an outer mpirun.
std::vector<std::string> names_to_unset(const std::vector<std::string>& environment);

/// Where Open MPI keeps its session files and shared memory for an attempt that runs on this machine alone:
/// one folder that can be removed after a SIGKILL, which else leaks megabytes of shared memory per rank.
std::filesystem::path scratch_folder(const std::string& uuid);

/// A line that a POSIX shell splits back into `argv`.
std::string shell_quoted(const std::vector<std::string>& argv);

}  // namespace cosub::launcher
