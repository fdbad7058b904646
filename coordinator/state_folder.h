// The coordinator's own folder (STATE): state.db, token, address.json, lock. It must lie on a local disk
// (SQLite's WAL does not work over a network), and belongs to one coordinator at a time. main() holds it for
// as long as it runs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "common/file_lock.h"

namespace cosub::coordinator {

/// The name of the network (or FUSE) file system a statfs magic number stands for; nullopt for local ones.
std::optional<std::string> network_file_system(long magic);

struct RecordedAddress {
  std::string host;
  std::uint16_t port = 0;
};

class StateFolder {
 public:
  /// Creates the folder (0700), checks its file system and takes the lock. ConfigError saying what to do when
  /// it is on a network and that is not allowed, or when another coordinator (named by process and host) has
  /// it.
  StateFolder(const std::filesystem::path& folder, bool allow_network);

  std::filesystem::path database() const { return folder_ / "state.db"; }
  std::filesystem::path token() const { return folder_ / "token"; }

  /// Where the coordinator listened last; nullopt when never, or when that cannot be read.
  std::optional<RecordedAddress> recorded_address() const;
  void record_address(const std::string& address, std::int64_t generation) const;

 private:
  std::filesystem::path folder_;
  std::optional<FileLock> lock_;
};

}  // namespace cosub::coordinator
