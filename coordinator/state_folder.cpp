#include "coordinator/state_folder.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <spdlog/spdlog.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/process.h"

namespace cosub::coordinator {
namespace {

void refuse_network(const std::filesystem::path& folder, bool allowed) {
  struct statfs info {};
  if (statfs(folder.c_str(), &info) != 0)
    throw IoError(fmt::format("{}: statfs: {}", folder.string(), std::strerror(errno)));
  const auto kind = network_file_system(static_cast<long>(info.f_type));
  if (!kind) return;
  if (!allowed)
    throw ConfigError(fmt::format(
        "{}: the state folder lies on {}, where SQLite's write-ahead log can lose what was committed. Give "
        "a folder on a local disk (--state), or --allow-network-state if you know that it is safe",
        folder.string(), *kind));
  spdlog::warn("{}: the state folder lies on {}; going on as told", folder.string(), *kind);
}

// A coordinator that was just killed holds its lock until the kernel has taken it apart.
constexpr std::chrono::seconds kLockPatience(2);

}  // namespace

std::optional<std::string> network_file_system(long magic) {
  static const std::map<unsigned long, std::string> kinds{
      {NFS_SUPER_MAGIC, "NFS"}, {SMB_SUPER_MAGIC, "SMB"}, {0xff534d42UL, "CIFS"},   {0xfe534d42UL, "SMB2"},
      {0x0bd00bd0UL, "Lustre"}, {0x65735546UL, "FUSE"},   {AFS_SUPER_MAGIC, "AFS"}, {0x00c36400UL, "CephFS"},
      {0x19830326UL, "BeeGFS"}, {0x47504653UL, "GPFS"},   {V9FS_MAGIC, "9p"},       {0x7461636fUL, "OCFS2"},
      {0x01161970UL, "GFS2"},   {0xaad7aaeaUL, "PanFS"}};
  const auto found = kinds.find(static_cast<unsigned long>(magic) & 0xffffffffUL);
  if (found == kinds.end()) return std::nullopt;
  return found->second;
}

StateFolder::StateFolder(const std::filesystem::path& folder, bool allow_network)
    : folder_(std::filesystem::absolute(folder).lexically_normal()) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(folder_, error);
  if (error) throw IoError(fmt::format("{}: cannot create it: {}", folder_.string(), error.message()));
  if (made) std::filesystem::permissions(folder_, std::filesystem::perms::owner_all);
  refuse_network(folder_, allow_network);
  const std::filesystem::path file = folder_ / "lock";
  lock_ = FileLock::try_lock(file, kLockPatience, 0600);
  if (!lock_)
    throw ConfigError(fmt::format(
        "{}: another coordinator ({}) works with this state folder. Talk to that one (its address is in {}), "
        "stop it first, or give another folder (--state)",
        folder_.string(), FileLock::holder_of(file), (folder_ / "address.json").string()));
  remove_stale_temporaries(folder_);
}

std::optional<RecordedAddress> StateFolder::recorded_address() const {
  const std::filesystem::path file = folder_ / "address.json";
  if (!std::filesystem::exists(file)) return std::nullopt;
  try {
    const std::string text = nlohmann::json::parse(read_file(file)).at("address").get<std::string>();
    const std::size_t colon = text.rfind(':');
    const int port = std::stoi(text.substr(colon + 1));
    if (colon == std::string::npos || port <= 0 || port > 65535) return std::nullopt;
    return RecordedAddress{text.substr(0, colon), static_cast<std::uint16_t>(port)};
  } catch (const std::exception& problem) {
    spdlog::warn("{}: cannot be read ({}); a new port is taken", file.string(), problem.what());
    return std::nullopt;
  }
}

void StateFolder::record_address(const std::string& address, std::int64_t generation) const {
  const nlohmann::json json{{"address", address},
                            {"pid", getpid()},
                            {"start_time", start_time_of(getpid()).value_or(0)},
                            {"generation", generation}};
  write_file_atomically(folder_ / "address.json", json.dump() + "\n");
}

}  // namespace cosub::coordinator
