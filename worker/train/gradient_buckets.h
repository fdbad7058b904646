// Which ranges of the gradients are exchanged when. A step's vector is cut into buckets; a bucket may leave
// as soon as the backward pass has added the last gradient into it, and buckets leave in one order on all
// ranks: that of the backward pass, from the model's end to its beginning.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "worker/collective/communicator.h"
#include "worker/collective/reduction/partition.h"
#include "worker/train/flat_state.h"

namespace cosub::train {

/// Buckets of at most `bucket_floats` over the parameters' part of a vector, decayed and other parameters
/// apart, the one that holds the model's first parameters last. `order`: parameter names from the model's
/// beginning to its end.
std::vector<collective::Range> gradient_buckets(const FlatState& state, const std::vector<std::string>& order,
                                                std::int64_t bucket_floats);

/// Tells when buckets are complete, through hooks on the parameters. Hooks are called by the threads of the
/// backward pass (on CPU the caller's own).
class GradientReadiness {
 public:
  /// on_ready(i) for each bucket, in order. Buckets without parameters are ready at once.
  GradientReadiness(FlatState& state, const std::vector<collective::Range>& buckets,
                    std::function<void(std::size_t)> on_ready);
  ~GradientReadiness();
  GradientReadiness(const GradientReadiness&) = delete;
  GradientReadiness& operator=(const GradientReadiness&) = delete;

  void arm();     // before the backward pass whose gradients are the step's last
  void finish();  // after it: what got no gradient (a branch that kept no row) is ready as well

 private:
  void gradient_added(std::size_t parameter);
  void tell_ready();

  FlatState& state_;
  std::function<void(std::size_t)> on_ready_;
  std::vector<std::vector<std::size_t>> buckets_of_;  // by parameter
  std::vector<std::int64_t> num_parameters_;          // by bucket
  std::mutex mutex_;
  bool armed_ = false;                 // guarded by mutex_, as all below
  std::vector<std::int64_t> awaited_;  // by bucket: parameters whose gradients are still to come
  std::size_t next_ = 0;
};

}  // namespace cosub::train
