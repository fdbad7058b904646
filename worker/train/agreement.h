// What ranks must agree on before they go on together. All functions are collective.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "common/error.h"
#include "worker/collective/communicator.h"

namespace cosub::train {

/// An error that every rank of the job throws alike, so that all can end in order; `rank` is where it
/// happened first. Only that rank prints and records it.
class AgreedError : public Error {
 public:
  AgreedError(const std::string& message, ExitCode code, std::int64_t rank)
      : Error(message, code), rank_(rank) {}
  std::int64_t rank() const { return rank_; }

 private:
  std::int64_t rank_;
};

/// Runs `work` on every rank (it must not be collective); when it throws anywhere, every rank throws the
/// AgreedError of the first rank whose work failed.
void on_all_ranks(collective::Communicator& communicator, const std::string& what,
                  const std::function<void()>& work);

/// Error naming the first rank whose text differs from rank 0's, and both texts.
void check_equal_on_all_ranks(collective::Communicator& communicator, const std::string& mine,
                              const std::string& what);

/// Rank 0 writes a nonce below `folder`; every rank must read it within `limit`, else Error naming rank and
/// host: a run's folder must be one folder for all.
void check_shared_folder(collective::Communicator& communicator, const std::filesystem::path& folder,
                         std::chrono::milliseconds limit = std::chrono::seconds(30));

/// Rank 0's text on every rank.
std::string text_of_rank_0(collective::Communicator& communicator, const std::string& mine,
                           const std::string& what);

/// True on every rank when any rank says so.
bool any_rank(collective::Communicator& communicator, bool mine, const std::string& what);

}  // namespace cosub::train
