#include "worker/train/agreement.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "common/atomic_file.h"
#include "common/process.h"

namespace cosub::train {
namespace {

/// Each rank's outcome as text: "" when its work was done, else the exit code and the message.
void throw_first_failure(const std::vector<std::string>& outcomes) {
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    const std::string& outcome = outcomes[rank];
    if (outcome.empty()) continue;
    std::size_t blank = outcome.find(' ');
    throw AgreedError(outcome.substr(blank + 1), static_cast<ExitCode>(std::stoi(outcome.substr(0, blank))),
                      static_cast<std::int64_t>(rank));
  }
}

std::string outcome_of(const std::function<void()>& work) {
  try {
    work();
    return "";
  } catch (const Error& error) {
    return fmt::format("{} {}", static_cast<int>(error.exit_code()), error.what());
  } catch (const c10::Error& error) {
    return fmt::format("{} {}", static_cast<int>(ExitCode::kFailure), error.what_without_backtrace());
  } catch (const std::exception& error) {
    return fmt::format("{} {}", static_cast<int>(ExitCode::kFailure), error.what());
  }
}

}  // namespace

void on_all_ranks(collective::Communicator& communicator, const std::string& what,
                  const std::function<void()>& work) {
  throw_first_failure(communicator.all_gather_text(outcome_of(work), what));
}

void check_equal_on_all_ranks(collective::Communicator& communicator, const std::string& mine,
                              const std::string& what) {
  std::vector<std::string> texts = communicator.all_gather_text(mine, what);
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] == texts[0]) continue;
    throw AgreedError(fmt::format("{} differs between rank 0 ({}) and rank {} ({}). All ranks must run the "
                                  "same program on the same "
                                  "kind of processor and see the same files.",
                                  what, texts[0], rank, texts[rank]),
                      ExitCode::kFailure, static_cast<std::int64_t>(rank));
  }
}

void check_shared_folder(collective::Communicator& communicator, const std::filesystem::path& folder,
                         std::chrono::milliseconds limit) {
  if (communicator.world_size() == 1) return;
  std::filesystem::path file = folder / ".shared-folder-check";
  std::string nonce = communicator.rank() == 0 ? new_uuid() : "";
  on_all_ranks(communicator, "writing the shared folder check", [&] {
    if (communicator.rank() == 0) write_file_atomically(file, nonce);
  });
  nonce = text_of_rank_0(communicator, nonce, "nonce of the shared folder check");
  on_all_ranks(communicator, "reading the shared folder check", [&] {
    auto deadline = std::chrono::steady_clock::now() + limit;
    while (!std::filesystem::exists(file) || read_file(file) != nonce) {
      if (std::chrono::steady_clock::now() > deadline)
        throw Error(fmt::format(
            "rank {} on {} does not see what rank 0 wrote to {} within {} s: the runs folder must "
            "be on storage that all hosts share",
            communicator.rank(), host_name(), file.string(), limit.count() / 1000));
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  });
  if (communicator.rank() == 0) std::filesystem::remove(file);
}

std::string text_of_rank_0(collective::Communicator& communicator, const std::string& mine,
                           const std::string& what) {
  return communicator.all_gather_text(communicator.rank() == 0 ? mine : "", what).at(0);
}

bool any_rank(collective::Communicator& communicator, bool mine, const std::string& what) {
  // As text, because a communicator over GPUs takes no CPU tensors.
  std::vector<std::string> texts = communicator.all_gather_text(mine ? "yes" : "no", what);
  return std::find(texts.begin(), texts.end(), "yes") != texts.end();
}

}  // namespace cosub::train
