// One rank of a job that fails on purpose, for failure_test: cosub_failing_ranks OPERATION. The last rank
// never enters the operation; the others have 300 ms, print the error they get and leave with 3 through every
// destructor.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>

#include "common/error.h"
#include "worker/collective/communicator.h"
#include "worker/collective/step_reduction.h"

namespace cosub::collective {
namespace {

// As the worker's main: objects are destroyed on the way out, then the process exits.
int run(const std::string& operation) {
  const auto world = connect();
  world->barrier("start of the test");
  const auto part = world->split(std::min<std::int64_t>(world->rank(), 1), "all but the first");
  part->set_limit(std::chrono::milliseconds(300));
  if (operation == "unwinding") {
    // One rank fails by itself while the others are in a collective: it must leave without waiting for them.
    if (world->rank() == world->world_size() - 1) throw NonFiniteError("loss is not a number");
  } else if (world->rank() == world->world_size() - 1) {
    while (true) pause();  // mpirun ends us
  }
  if (operation == "abort" && world->rank() == 0) world->abort(42);
  world->set_limit(operation == "unwinding" || operation == "abort" ? std::chrono::minutes(5)
                                                                    : std::chrono::milliseconds(300));
  auto tensor = at::ones({100000});
  std::vector<at::Tensor> some(static_cast<std::size_t>(world->world_size()), at::ones({100000}));
  std::vector<at::Tensor> others;
  for (const auto& each : some) others.push_back(each.clone());
  const std::map<std::string, std::function<void()>> operations = {
      {"all_reduce_sum", [&] { world->all_reduce_sum(tensor, "step 12"); }},
      {"broadcast", [&] { world->broadcast(tensor, world->world_size() - 1, "step 12"); }},
      {"all_to_all", [&] { world->all_to_all(some, others, "step 12"); }},
      {"all_gather", [&] { world->all_gather(tensor, others, "step 12"); }},
      {"all_gather_text", [&] { world->all_gather_text("text", "step 12"); }},
      {"split", [&] { world->split(0, "step 12"); }},
      {"part",
       [&] {
         std::vector<at::Tensor> two(others.begin(), others.begin() + part->world_size());
         part->all_gather(tensor, two, "step 12");
         if (world->rank() == 0) pause();  // the one that waited ends us
       }},
      {"barrier", [&] { world->barrier("step 12"); }},
      {"buckets", [&] { world->all_reduce_sum_buckets(some, "step 12"); }},
      {"unwinding", [&] { world->barrier("step 12"); }},
      {"abort", [&] { world->barrier("step 12"); }},
      {"twice",
       [&] {
         try {
           world->barrier("step 12");
         } catch (const CollectiveError&) {
           world->barrier("step 13");
         }
       }},
      {"end", [] {}},  // the destructor waits for the others, too
  };
  operations.at(operation)();
  return 0;
}

}  // namespace
}  // namespace cosub::collective

int main(int argc, char** argv) {
  try {
    return argc == 2 ? cosub::collective::run(argv[1]) : 64;
  } catch (const std::exception& error) {
    fmt::print("{}\n", error.what());
    std::fflush(stdout);
    return 3;
  }
}
