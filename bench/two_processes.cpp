// What two processes at the same time get of a machine, over what one gets: what two ranks can be
// measured against.
//   build/release/bench/two_processes [TURNS [SECONDS]]      (default: 16 of 0.3 s, a minute)
// Multiply-adds in registers, then reading and writing again and again as much as each cache holds. One
// process and two take turns of so many seconds; minimum, median and maximum of the turns' ratios. What
// strangers do to a core may last: turns as long as a training step show what that meets. Where the first row
// shows 2 and others do not, the cores are there and caches or memory are shared: with each other, or with
// strangers.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <type_traits>
#include <vector>

#include "common/vector_clones.h"

namespace cosub {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kStart(50);

constexpr std::int64_t kSums =
    96;  // 12 registers of AVX2: more than a multiply-add takes cycles, no more than there are

/// kSums * rounds multiply-adds.
COSUB_VECTOR_CLONES void multiply_add(float* sums, std::int64_t rounds) {
  std::array<float, kSums> own;
  std::copy_n(sums, kSums, own.begin());
  for (std::int64_t round = 0; round < rounds; ++round)
    for (std::int64_t i = 0; i < kSums; ++i)
      own[static_cast<std::size_t>(i)] = own[static_cast<std::size_t>(i)] * 0.999F + 0.001F;
  std::copy_n(own.begin(), kSums, sums);
}

COSUB_VECTOR_CLONES void add_one(float* values, std::int64_t size) {
  for (std::int64_t i = 0; i < size; ++i) values[i] += 1;
}

struct Load {
  const char* name;
  std::int64_t floats;  // 0: registers
};
constexpr std::array<Load, 5> kLoads = {
    {{"registers", 0}, {"16 KiB", 1 << 12}, {"256 KiB", 1 << 16}, {"4 MiB", 1 << 20}, {"128 MiB", 1 << 25}}};

/// Operations (registers: multiply-adds; else: floats read and written) from `start` on.
std::int64_t work(const Load& load, Clock::time_point start, Clock::duration turn) {
  constexpr std::int64_t kRounds = 20'000;
  std::vector<float> values(static_cast<std::size_t>(std::max(load.floats, kSums)), 1.0F);
  while (Clock::now() < start) {
  }
  std::int64_t done = 0;
  while (Clock::now() < start + turn) {
    if (load.floats == 0) {
      multiply_add(values.data(), kRounds);
      done += kRounds * kSums;
    } else {  // as much for each look at the clock
      for (std::int64_t pass = 0; pass < std::max<std::int64_t>(1, (1 << 18) / load.floats); ++pass) {
        add_one(values.data(), load.floats);
        done += load.floats;
      }
    }
  }
  return done;
}

/// Of all processes together, in operations a second.
double rate(const Load& load, std::size_t num_processes, Clock::duration turn, std::int64_t* done) {
  const Clock::time_point start = Clock::now() + kStart;
  std::vector<pid_t> processes;
  for (std::size_t i = 0; i < num_processes; ++i) {
    const pid_t process = fork();
    if (process == 0) {
      done[i] = work(load, start, turn);
      _exit(0);
    }
    if (process < 0) {
      std::perror("two_processes: fork");
      std::exit(1);
    }
    processes.push_back(process);
  }
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < num_processes; ++i) {
    waitpid(processes[i], nullptr, 0);
    sum += done[i];
  }
  return static_cast<double>(sum) / std::chrono::duration<double>(turn).count();
}

void measure(const Load& load, int turns, Clock::duration length, std::int64_t* done) {
  std::vector<double> ones, ratios;
  for (int turn = 0; turn < turns; ++turn) {
    double one = 0, two = 0;
    for (const std::size_t which : {turn % 2, 1 - turn % 2})
      (which == 0 ? one : two) = rate(load, which + 1, length, done);
    ones.push_back(one);
    ratios.push_back(two / one);
  }
  std::sort(ones.begin(), ones.end());
  std::sort(ratios.begin(), ratios.end());
  const double median = ones[ones.size() / 2] / 1e9;
  fmt::print("{:<10}  {:>8.1f} {:<8}  {:>8.2f}  {:>8.2f}  {:>8.2f}\n", load.name,
             load.floats == 0 ? 2 * median : 8 * median, load.floats == 0 ? "GFLOP/s" : "GB/s",
             ratios.front(), ratios[ratios.size() / 2], ratios.back());
  std::fflush(stdout);
}

/// False, and says so, where `text` is no such number, or below `least`.
template <class Number>
bool read(const char* name, std::string_view text, Number least, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number >= least) return true;
  fmt::print(stderr, "two_processes: {}: found {}; allowed: a {}number >= {}\n", name, text,
             std::is_integral_v<Number> ? "whole " : "", least);
  return false;
}

int run(int argc, char** argv) {
  int turns = 16;
  double seconds = 0.3;
  if (argc > 1 && !read("TURNS", argv[1], 1, turns)) return 64;
  if (argc > 2 && !read("SECONDS", argv[2], 0.01, seconds)) return 64;
  const auto length =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(std::min(seconds, 3600.0)));
  void* const shared =
      mmap(nullptr, 2 * sizeof(std::int64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    std::perror("two_processes: mmap");
    return 1;
  }
  fmt::print("two processes over one\n{:<10}  {:<17}  {:>8}  {:>8}  {:>8}\n", "", "one (median)", "min",
             "median", "max");
  std::fflush(stdout);
  for (const Load& load : kLoads) measure(load, turns, length, static_cast<std::int64_t*>(shared));
  return 0;
}

}  // namespace
}  // namespace cosub

int main(int argc, char** argv) {
  return cosub::run(argc, argv);
}
