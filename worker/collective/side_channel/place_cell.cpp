#include "worker/collective/side_channel/place_cell.h"

#include <algorithm>

namespace cosub::collective {
namespace {

std::uint64_t bits(std::int64_t value, int width) {
  return static_cast<std::uint64_t>(std::clamp<std::int64_t>(value, 0, (std::int64_t{1} << width) - 1));
}

std::int64_t field(std::uint64_t packed, int shift, int width) {
  return static_cast<std::int64_t>(packed >> shift & ((std::uint64_t{1} << width) - 1));
}

bool is_same_stretch(const Place& a, const Place& b) {
  const auto in_microbatch = [](Phase phase) { return phase >= Phase::kLoad && phase <= Phase::kBackward; };
  if (a.step != b.step) return false;
  if (in_microbatch(a.phase) && in_microbatch(b.phase)) return true;
  const bool evaluated = a.phase == Phase::kEvaluate && (a.microbatch >= 100) != (b.microbatch >= 100);
  return a.phase == b.phase && !evaluated;
}

}  // namespace

void PlaceCell::at(const Place& place) {
  const std::int64_t milestone = last_.milestone + (is_same_stretch(last_, place) ? 0 : 1);
  last_ = place;
  last_.milestone = milestone;
  milestone_.store(milestone, std::memory_order_relaxed);
  place_.store(bits(place.step, 40) << 24 | bits(static_cast<std::int64_t>(place.phase), 4) << 20 |
                   bits(place.microbatch + 1, 20),
               std::memory_order_relaxed);
}

void PlaceCell::exchanging(std::int64_t step, std::int64_t bucket, std::int64_t num_buckets) {
  exchange_.store(bits(step, 32) << 32 | bits(bucket, 16) << 16 | bits(num_buckets, 16),
                  std::memory_order_relaxed);
}

Place PlaceCell::get() const {
  const std::uint64_t packed = place_.load(std::memory_order_relaxed);
  Place place{.step = field(packed, 24, 40),
              .phase = static_cast<Phase>(field(packed, 20, 4)),
              .microbatch = field(packed, 0, 20) - 1,
              .milestone = milestone_.load(std::memory_order_relaxed)};
  const std::uint64_t exchange = exchange_.load(std::memory_order_relaxed);
  const bool in_step = place.phase >= Phase::kLoad && place.phase <= Phase::kExchange;
  if (in_step && field(exchange, 32, 32) == place.step) {
    place.bucket = field(exchange, 16, 16);
    place.num_buckets = field(exchange, 0, 16);
  }
  return place;
}

PlaceReport PlaceWatch::look(SideTime now) {
  const Place place = cell_.get();
  if (since_ == SideTime{} || place != last_) since_ = now;
  last_ = place;
  return {place, std::chrono::duration_cast<std::chrono::milliseconds>(now - since_)};
}

}  // namespace cosub::collective
