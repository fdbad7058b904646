#include "common/random.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <stdexcept>

namespace cosub {
namespace {

constexpr std::uint32_t kMaxBlocks = 1U << 16;
constexpr std::uint64_t kMaxIndex = std::uint64_t{1} << 48;

struct Product {
  std::uint32_t high, low;
};
Product multiply(std::uint32_t a, std::uint32_t b) {
  const std::uint64_t product = std::uint64_t{a} * b;
  return {static_cast<std::uint32_t>(product >> 32), static_cast<std::uint32_t>(product)};
}

}  // namespace

std::uint64_t stream_seed(std::uint64_t seed, std::string_view stage) {
  return XXH64(stage.data(), stage.size(), seed);
}

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const Product a = multiply(0xD2511F53U, counter[0]);
    const Product b = multiply(0xCD9E8D57U, counter[2]);
    counter = {b.high ^ counter[1] ^ key[0], b.low, a.high ^ counter[3] ^ key[1], a.low};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

// Key: stream + purpose * odd constant, different for any two purposes of a stream. Counter, injective in
// what tells draws apart: major[0:32], minor[0:32], major[32:48] | minor[32:48], lane | block.
KeyedRandom::KeyedRandom(std::uint64_t stream, Purpose purpose, std::uint64_t major, std::uint64_t minor,
                         std::uint32_t lane) {
  if (major >= kMaxIndex || minor >= kMaxIndex || lane >= (1U << 16))
    throw std::length_error("KeyedRandom: major and minor must be below 2^48, lane below 2^16");
  const std::uint64_t key = stream + static_cast<std::uint64_t>(purpose) * 0x9E3779B97F4A7C15ULL;
  key_ = {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)};
  counter_ = {static_cast<std::uint32_t>(major), static_cast<std::uint32_t>(minor),
              static_cast<std::uint32_t>((major >> 32) << 16 | minor >> 32), lane << 16};
}

std::uint32_t KeyedRandom::next_u32() {
  if (used_ == 4) {
    if (num_blocks_ == kMaxBlocks)
      throw std::length_error("KeyedRandom: more than 2^18 words drawn for one key");
    std::array<std::uint32_t, 4> counter = counter_;
    counter[3] |= num_blocks_++;
    words_ = philox4x32(counter, key_);
    used_ = 0;
  }
  return words_[static_cast<std::size_t>(used_++)];
}

std::uint64_t KeyedRandom::next_u64() {
  const std::uint64_t low = next_u32();
  return std::uint64_t{next_u32()} << 32 | low;
}

double KeyedRandom::uniform() {
  return static_cast<double>(next_u64() >> 11) * 0x1.0p-53;
}

std::uint64_t KeyedRandom::uniform_int(std::uint64_t n) {
  if (n == 0) throw std::invalid_argument("KeyedRandom::uniform_int: n must be positive");
  if (n <= 0xFFFFFFFFU) {  // half the words of the wide case
    const auto bound = static_cast<std::uint32_t>(n);
    Product product = multiply(next_u32(), bound);
    const std::uint32_t threshold = (0U - bound) % bound;
    while (product.low < threshold) product = multiply(next_u32(), bound);
    return product.high;
  }
  using Wide = unsigned __int128;
  const std::uint64_t threshold = (0 - n) % n;
  Wide product = Wide{next_u64()} * n;
  while (static_cast<std::uint64_t>(product) < threshold) product = Wide{next_u64()} * n;
  return static_cast<std::uint64_t>(product >> 64);
}

double KeyedRandom::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));  // 1 - u is in (0, 1]
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

double KeyedRandom::gamma(double shape) {
  if (!(shape > 0.0)) throw std::invalid_argument("KeyedRandom::gamma: shape must be positive");
  if (shape < 1.0) {
    const double larger = gamma(shape + 1.0);
    return larger * std::pow(uniform(), 1.0 / shape);
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = normal();
    const double cube_root = 1.0 + c * x;
    const double u = 1.0 - uniform();
    if (cube_root <= 0.0) continue;
    const double v = cube_root * cube_root * cube_root;
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

double KeyedRandom::beta(double a, double b) {
  const double x = gamma(a);
  const double y = gamma(b);
  // Both underflow only for tiny a and b, where the distribution sits at 0 and 1.
  if (x + y == 0.0) return uniform() < a / (a + b) ? 1.0 : 0.0;
  return x / (x + y);
}

std::vector<std::int64_t> KeyedRandom::choose(std::int64_t n, std::int64_t k) {
  if (n < 0 || k < 0 || k > n) throw std::invalid_argument("KeyedRandom::choose: needs 0 <= k <= n");
  std::vector<std::int64_t> indices(static_cast<std::size_t>(n));
  std::iota(indices.begin(), indices.end(), std::int64_t{0});
  if (k == n) return indices;
  for (std::int64_t i = 0; i < k; ++i) {
    const auto other = i + static_cast<std::int64_t>(uniform_int(static_cast<std::uint64_t>(n - i)));
    std::swap(indices[static_cast<std::size_t>(i)], indices[static_cast<std::size_t>(other)]);
  }
  indices.resize(static_cast<std::size_t>(k));
  std::sort(indices.begin(), indices.end());
  return indices;
}

}  // namespace cosub
