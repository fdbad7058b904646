// The training samples that cannot be decoded: each is known once, on every rank, whichever rank met it and
// however often; kept in the checkpoint, and listed by name in STAGE/bad_samples.tsv by rank 0.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "worker/collective/communicator.h"
#include "worker/data/microbatch.h"

namespace cosub::train {

class BadSamples {
 public:
  BadSamples(collective::Communicator& communicator, std::filesystem::path file);

  /// Goes on from a checkpoint (not collective): the file loses what came after it. IoError when it cannot be
  /// written.
  void restore(const std::set<std::int64_t>& known);

  /// Takes over what nobody knows yet from a microbatch of this rank, and leaves only that in it.
  void keep_new(std::vector<data::BadSample>& bad);

  /// Collective. Tells all ranks what this one found; returns how many were new to all. Rank 0 lists
  /// them all, and logs each, but those of a shard that is gone once for all of them.
  std::int64_t exchange(std::int64_t step);

  const std::set<std::int64_t>& known() const { return known_; }
  /// Of the last sample that was new; the same on every rank.
  const std::string& last_reason() const { return last_reason_; }

 private:
  void list(std::int64_t step, const data::BadSample& sample);

  collective::Communicator& communicator_;
  std::filesystem::path file_;
  std::set<std::int64_t> known_;
  std::vector<data::BadSample> found_;  // by this rank, not yet told
  std::string last_reason_;
  std::set<std::string> causes_;  // that were logged, on rank 0
};

}  // namespace cosub::train
