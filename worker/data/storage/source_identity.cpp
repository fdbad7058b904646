#include "worker/data/storage/source_identity.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <string_view>

#include "common/atomic_file.h"
#include "common/shard_list.h"

namespace cosub::data {
namespace {

class Hash {
 public:
  Hash() : state_(XXH3_createState(), &XXH3_freeState) {
    if (!state_) throw std::bad_alloc();
    XXH3_64bits_reset(state_.get());
  }
  void add(std::string_view text) {
    XXH3_64bits_update(state_.get(), text.data(), text.size());
    add(static_cast<std::int64_t>(text.size()));
  }
  void add(std::int64_t number) { XXH3_64bits_update(state_.get(), &number, sizeof number); }
  std::string hex() const { return fmt::format("{:016x}", XXH3_64bits_digest(state_.get())); }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

/// The path of a folder's sample below it.
std::string_view below(const std::string& folder, std::string_view path) {
  if (!path.starts_with(folder)) return path;  // a list may name files elsewhere
  path.remove_prefix(folder.size());
  return path.starts_with('/') ? path.substr(1) : path;
}

}  // namespace

std::string identity_of(const config::SourceConfig& config, const Source& source) {
  Hash hash;
  if (config.idx) hash.add(xxh3_file(config.idx->images));
  for (const ListedShard& shard : require_shards(config.shards)) {
    hash.add(shard.path.filename().string());
    hash.add(static_cast<std::int64_t>(std::filesystem::file_size(shard.path)));
  }
  const bool has_names = !config.folder.empty();  // a shard's would have to be looked up in it, one by one
  for (std::int64_t i = 0; i < source.size(); ++i) {
    if (has_names) hash.add(below(config.folder.string(), source.name(i)));
    hash.add(source.label(i));
  }
  return hash.hex();
}

}  // namespace cosub::data
