// The border between the worker and the module cosub_nccl (lib/libcosub_nccl.so): one C function, found by
// name. Both sides are built together, so C++ types may cross it.
#pragma once

#include <memory>

#include "worker/collective/communicator.h"

namespace cosub::collective {

constexpr const char* kNcclFactoryName = "cosub_make_nccl_communicator";
using NcclFactory = void (*)(Communicator& bootstrap, std::unique_ptr<Communicator>& made);

}  // namespace cosub::collective
