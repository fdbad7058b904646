#include "tests/support/cuda_on_cpu.h"

#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/emulated_kernels.h"

namespace cosub::testing {
namespace {

constexpr std::size_t kStackBytes = 64 << 10;
constexpr unsigned kWarpSize = 32;

struct Fiber {
  enum class State { kRuns, kWaitsForWarp, kWaitsForBlock, kDone };
  ucontext_t context{};
  std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStackBytes);
  State state = State::kDone;
  alignas(16) unsigned char exchanged[2][kExchangeBytes] = {};
  unsigned exchanges = 0;
};

ucontext_t scheduler;
std::vector<Fiber> fibers;  // kept from launch to launch
unsigned num_threads = 0, running = 0;
const std::function<void()>* thread_function = nullptr;
bool backwards = false;

struct alignas(1024) SharedLine {
  unsigned char bytes[1024];
};
std::vector<SharedLine> shared_memory;

void fiber_main() {
  (*thread_function)();
  fibers[running].state = Fiber::State::kDone;
}

void wait(Fiber::State state) {
  Fiber& fiber = fibers[running];
  fiber.state = state;
  swapcontext(&fiber.context, &scheduler);
}

void start(Fiber& fiber) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = &scheduler;
  fiber.exchanges = 0;
  fiber.state = Fiber::State::kRuns;
  makecontext(&fiber.context, fiber_main, 0);
}

void resume(unsigned thread) {
  running = thread;
  kernels::threadIdx = {thread % kernels::blockDim.x, thread / kernels::blockDim.x};
  swapcontext(&scheduler, &fibers[thread].context);
}

/// Lets the threads [begin, end) go on if all of them are in that state.
bool release(unsigned begin, unsigned end, Fiber::State state) {
  for (unsigned i = begin; i < end; ++i)
    if (fibers[i].state != state) return false;
  for (unsigned i = begin; i < end; ++i) fibers[i].state = Fiber::State::kRuns;
  return true;
}

bool release_some() {
  bool released = release(0, num_threads, Fiber::State::kWaitsForBlock);
  for (unsigned warp = 0; warp < num_threads; warp += kWarpSize)
    released |= release(warp, std::min(warp + kWarpSize, num_threads), Fiber::State::kWaitsForWarp);
  return released;
}

void run_block(const char* name) {
  for (unsigned i = 0; i < num_threads; ++i) start(fibers[i]);
  do {
    for (unsigned i = 0; i < num_threads; ++i) {
      const unsigned thread = backwards ? num_threads - 1 - i : i;
      if (fibers[thread].state == Fiber::State::kRuns) resume(thread);
    }
  } while (release_some());
  for (unsigned i = 0; i < num_threads; ++i)
    if (fibers[i].state != Fiber::State::kDone)
      throw std::logic_error(std::string(name) + ": not all threads of a block or warp reach a barrier");
}

}  // namespace

void run_grid(const char* name, kernels::Extent grid, kernels::Extent block,
              const std::function<void()>& thread) {
  num_threads = static_cast<unsigned>(block.x * block.y);
  if (fibers.size() < num_threads) fibers.resize(num_threads);
  thread_function = &thread;
  kernels::blockDim = {static_cast<unsigned>(block.x), static_cast<unsigned>(block.y)};
  kernels::gridDim = {static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y)};
  for (unsigned y = 0; y < kernels::gridDim.y; ++y) {
    for (unsigned x = 0; x < kernels::gridDim.x; ++x) {
      kernels::blockIdx = {backwards ? kernels::gridDim.x - 1 - x : x, y};
      run_block(name);
    }
  }
}

void wait_for_block() {
  wait(Fiber::State::kWaitsForBlock);
}
void wait_for_warp() {
  wait(Fiber::State::kWaitsForWarp);
}
void next_exchange() {
  ++fibers[running].exchanges;
}
void* exchange_slot(unsigned distance) {
  return fibers[running ^ distance].exchanged[fibers[running].exchanges % 2];
}

void* dynamic_shared() {
  return shared_memory.data();
}
void resize_dynamic_shared(std::size_t bytes) {
  SharedLine nothing;
  std::memset(&nothing, 0xff, sizeof(nothing));  // no number of any kind
  shared_memory.assign((bytes + sizeof(SharedLine) - 1) / sizeof(SharedLine), nothing);
}

void set_backwards(bool descending) {
  backwards = descending;
}

}  // namespace cosub::testing
