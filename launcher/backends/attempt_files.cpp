#include <unistd.h>

#include <cctype>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/error.h"
#include "launcher/backends/backend.h"

namespace cosub::launcher {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// One small JSON file whose fields are asked for by name and type; a DataError names file and field.
class Document {
 public:
  explicit Document(const fs::path& path) : path_(path) {
    json_ = json::parse(read_file(path), nullptr, false);
    if (!json_.is_object()) throw DataError(path.string() + ": damaged: not a JSON object");
  }

  template <class Value>
  Value get(const char* field) const {
    const auto found = json_.find(field);
    if (found == json_.end()) fail(field, "is missing");
    try {
      return found->get<Value>();
    } catch (const json::exception&) {
      fail(field, "has the wrong type: " + found->dump(-1, ' ', false, json::error_handler_t::replace));
    }
  }

  [[noreturn]] void fail(const std::string& field, const std::string& what) const {
    throw DataError(path_.string() + ": damaged: field '" + field + "' " + what);
  }

 private:
  fs::path path_;
  json json_;
};

std::string text_of(const json& value) {
  return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

/// The UUID names processes to kill and a scratch folder to remove, so nothing but a plain word may pass.
bool is_plain_word(const std::string& uuid) {
  if (uuid.empty() || uuid.size() > 64) return false;
  for (const unsigned char c : uuid) {
    if (std::isalnum(c) == 0 && c != '-') return false;
  }
  return true;
}

}  // namespace

bool take_claim(const fs::path& attempt_folder, const Claim& claim) {
  const fs::path target = attempt_folder / "claim";
  const fs::path temporary = attempt_folder / ("claim.tmp." + new_uuid());
  const std::string content = text_of({{"owner", claim.owner},
                                       {"host", claim.host},
                                       {"boot_id", claim.boot_id},
                                       {"pid", claim.process.pid},
                                       {"start_time", claim.process.start_time}});
  write_new_file(temporary, std::as_bytes(std::span(content)));
  bool taken = link_new(temporary, target);
  // A repeated NFS request answers "exists" to the very link that made it: the inode tells.
  std::error_code error;
  if (!taken) taken = fs::equivalent(temporary, target, error);
  fs::remove(temporary, error);
  return taken;
}

std::optional<Claim> read_claim(const fs::path& attempt_folder) {
  const fs::path path = attempt_folder / "claim";
  if (!fs::exists(path)) return std::nullopt;
  const Document document(path);
  Claim claim;
  claim.owner = document.get<std::string>("owner");
  claim.host = document.get<std::string>("host");
  claim.boot_id = document.get<std::string>("boot_id");
  claim.process.pid = document.get<pid_t>("pid");
  claim.process.start_time = document.get<std::uint64_t>("start_time");
  return claim;
}

void write_exit(const fs::path& attempt_folder, const ExitRecord& record) {
  write_file_atomically(attempt_folder / "exit.json", text_of({{"exit_code", record.exit_code},
                                                               {"reason", record.reason},
                                                               {"failed_rank", record.failed_rank},
                                                               {"from_outside", record.from_outside},
                                                               {"step", record.step},
                                                               {"seconds", record.seconds}}));
}

std::optional<ExitRecord> read_exit(const fs::path& attempt_folder) {
  const fs::path path = attempt_folder / "exit.json";
  if (!fs::exists(path)) return std::nullopt;
  const Document document(path);
  ExitRecord record;
  record.exit_code = document.get<int>("exit_code");
  record.reason = document.get<std::string>("reason");
  record.failed_rank = document.get<int>("failed_rank");
  record.from_outside = document.get<bool>("from_outside");
  record.step = document.get<std::int64_t>("step");
  record.seconds = document.get<double>("seconds");
  return record;
}

void write_launch(const LaunchSpec& spec) {
  write_file_atomically(spec.attempt_folder / "launch.json",
                        text_of({{"uuid", spec.uuid},
                                 {"attempt", spec.attempt},
                                 {"worker_argv", spec.worker_argv},
                                 {"ranks", spec.ranks},
                                 {"hosts", spec.hosts},
                                 {"environment", spec.environment},
                                 {"grace_ms", spec.grace.count()},
                                 {"launcher_flags", spec.launcher_flags}}));
}

LaunchSpec read_launch(const fs::path& attempt_folder) {
  const Document document(attempt_folder / "launch.json");
  LaunchSpec spec;
  spec.uuid = document.get<std::string>("uuid");
  spec.attempt = document.get<std::int64_t>("attempt");
  spec.attempt_folder = fs::absolute(attempt_folder);
  spec.worker_argv = document.get<std::vector<std::string>>("worker_argv");
  spec.ranks = document.get<std::int64_t>("ranks");
  spec.hosts = document.get<std::vector<std::string>>("hosts");
  spec.environment = document.get<std::map<std::string, std::string>>("environment");
  spec.grace = std::chrono::milliseconds(document.get<std::int64_t>("grace_ms"));
  spec.launcher_flags = document.get<std::vector<std::string>>("launcher_flags");
  if (!is_plain_word(spec.uuid)) document.fail("uuid", "is not a UUID: '" + spec.uuid + "'");
  if (spec.worker_argv.empty()) document.fail("worker_argv", "is empty");
  if (spec.ranks < 1) document.fail("ranks", "must be at least 1, found " + std::to_string(spec.ranks));
  if (spec.grace.count() < 0) document.fail("grace_ms", "must not be negative");
  return spec;
}

}  // namespace cosub::launcher
