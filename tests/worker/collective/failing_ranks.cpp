// One rank of a job that fails on purpose, for failure_test: cosub_failing_ranks OPERATION (or: stopped
// RANK, absent). The last rank never enters the operation; the others have 300 ms, print the error they get
// and leave with 3 through every destructor.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <thread>

#include "common/error.h"
#include "worker/collective/communicator.h"
#include "worker/collective/reduction/step_reduction.h"
#include "worker/collective/side_channel/side_channel.h"

namespace cosub::collective {
namespace {

// Rank `stopped` is stopped in the middle of a step; the others find out in an all-reduce that takes too
// long.
int run_stopped(std::int64_t stopped) {
  const auto world = connect();
  SideChannel channel(*world, {.advertise = {}, .period = std::chrono::milliseconds(100)});
  channel.at({.step = 12, .phase = Phase::kBackward, .microbatch = 3});
  // All places are on the board before one stops.
  const auto is_complete = [&] {
    const auto ranks = channel.board().ranks;
    return std::all_of(ranks.begin(), ranks.end(), [](const auto& rank) { return rank.place.step == 12; });
  };
  while (!is_complete()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  world->barrier("all places are known");
  if (world->rank() == stopped) raise(SIGSTOP);
  channel.at({.step = 12, .phase = Phase::kExchange});
  world->set_limit(std::chrono::seconds(3));
  auto tensor = at::ones({100000});
  try {
    world->all_reduce_sum(tensor, "step 12, bucket 1 of 1");
  } catch (const CollectiveError& error) {
    fmt::print("{}\n", channel.explain(error));
    std::fflush(stdout);
    world->abort(3);
  }
  return 0;
}

// The last rank stops before it has met the others, who wait for it in the start of MPI.
int run_absent() {
  const std::string rank = std::getenv("OMPI_COMM_WORLD_RANK"), size = std::getenv("OMPI_COMM_WORLD_SIZE");
  if (std::stoi(rank) == std::stoi(size) - 1) raise(SIGSTOP);
  connect(std::chrono::seconds(2));
  return 0;
}

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
      {"meet", [&] { world->meet("step 12"); }},
      {"patient", [&] { world->meet("step 12", [asked = 0]() mutable { return ++asked < 2; }); }},
      {"cancelled",
       [&] {
         world->set_limit(std::chrono::minutes(5));
         std::jthread later([&] {
           std::this_thread::sleep_for(std::chrono::milliseconds(50));
           world->cancel();
         });
         world->meet("step 12");
       }},
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
    if (argc == 3) return cosub::collective::run_stopped(std::stoi(argv[2]));
    if (argc == 2 && std::string(argv[1]) == "absent") return cosub::collective::run_absent();
    return argc == 2 ? cosub::collective::run(argv[1]) : 64;
  } catch (const std::exception& error) {
    fmt::print("{}\n", error.what());
    std::fflush(stdout);
    return 3;
  }
}
