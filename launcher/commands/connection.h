// A coordinator as the commands see it: where it is, and its pipelines by typed calls. Blocking; one thread.
// State folder: what the coordinator was started with by --state; holds address.json and the token.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/http.h"
#include "common/process.h"
#include "common/protocol.h"

namespace cosub::commands {

/// Where a coordinator said that it listens (STATE/address.json).
struct Endpoint {
  std::string address;
  ProcessId process;
  std::int64_t generation = 0;
};
std::optional<Endpoint> read_endpoint(const std::filesystem::path& state_folder);

/// The state folder of `cosub run`'s own coordinator.
std::filesystem::path private_state_folder(const std::filesystem::path& run_folder);

/// Which state folder to talk to: `given` (--state), else $COSUB_STATE, else that of a live `cosub run` of
/// this pipeline below `runs`, else ~/.local/state/cosub.
std::filesystem::path choose_state_folder(const std::string& given, const std::string& pipeline,
                                          const std::filesystem::path& runs);

class Connection {
 public:
  /// IoError with the remedy when there is no coordinator behind the folder.
  explicit Connection(const std::filesystem::path& state_folder);

  std::vector<protocol::PipelineView> pipelines();
  protocol::PipelineView pipeline(const std::string& name);
  protocol::PipelineView submit(const std::string& yaml);
  protocol::PipelineView stop(const std::string& name, bool now, const std::string& reason);
  /// nullopt when nobody answers (an answer that is an error still throws).
  std::optional<protocol::PipelineView> try_pipeline(const std::string& name);
  const std::string& address() const { return address_; }

 private:
  std::string checked(const http::Result& result) const;
  std::string token_remedy() const;
  std::string address_;
  std::filesystem::path token_file_;
  std::unique_ptr<http::Client> client_;
};

}  // namespace cosub::commands
