// The sentence of a wait for other ranks that was too long, and its parts.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"

namespace cosub::collective {

/// "300 s", or "1500 ms" where it is no whole second.
std::string in_words(std::chrono::milliseconds duration);

/// "rank 1 of 4 on node3"
std::string describe_rank(std::int64_t rank, std::int64_t world_size, const std::string& host);

/// "all_reduce_sum (step 12, bucket 3 of 5)"
std::string describe_operation(const std::string& operation, const std::string& what);

/// "rank 2", "ranks 0, 2"
std::string list_ranks(const std::vector<std::int64_t>& ranks);

/// A wait for other ranks that passed its limit: "rank 0 of 3 on host7 waited 5 s for the other ranks in
/// all_reduce_sum (step 12, bucket 3 of 5)".
class WaitLimitError : public CollectiveError {
 public:
  /// `awaited`: what the operation itself can say of whom it waits for; `who`, `operation` as worded above.
  WaitLimitError(std::string who, std::chrono::milliseconds limit, const std::string& awaited,
                 std::string operation);
  /// The same with what somebody else knows: whom it waited for, and why (a Diagnosis of board.h).
  std::string explained(const std::vector<std::int64_t>& ranks, const std::string& reason) const;

 private:
  std::string who_, limit_, operation_;
};

}  // namespace cosub::collective
