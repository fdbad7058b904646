#include "worker/tools/source_arguments.h"

#include <fmt/format.h>

#include "common/error.h"
#include "worker/tools/number_check.h"

namespace cosub::tools {

void add_source(CLI::App& app, SourceArguments& arguments, const std::string& prefix) {
  arguments.prefix = prefix;
  config::SourceConfig& source = arguments.source;
  app.add_option(prefix + "folder", source.folder, "folder with one sub-folder per class");
  app.add_option(prefix + "list", source.list, "samples of the folder: lines 'path label'");
  app.add_option(prefix + "shards", source.shards, "tar shards with their index, '/data/{0000..0127}.tar'");
  app.add_option(prefix + "images", arguments.idx.images, "IDX file of images, plain or .gz");
  app.add_option(prefix + "labels", arguments.idx.labels, "IDX file of labels, plain or .gz");
  app.add_option(prefix + "class-map", source.class_map, "class names by number");
  app.add_option(prefix + "limit", source.limit, "only the first N samples")->check(whole_at_least(0));
}

config::SourceConfig SourceArguments::get() const {
  if (!source.class_map.empty() && (!source.shards.empty() || !idx.images.empty())) {
    throw ConfigError(
        fmt::format("{0}class-map: found beside samples whose labels are numbers already; allowed: beside "
                    "{0}folder. Shards get theirs by cosub data index --class-map FILE",
                    prefix));
  }
  return get_named();
}

config::SourceConfig SourceArguments::get_named() const {
  const int sources =
      (source.folder.empty() ? 0 : 1) + (source.shards.empty() ? 0 : 1) + (idx.images.empty() ? 0 : 1);
  if (sources != 1 || idx.images.empty() != idx.labels.empty()) {
    throw ConfigError(
        fmt::format("give one source of samples: {0}folder, {0}shards, or {0}images and {0}labels", prefix));
  }
  config::SourceConfig result = source;
  if (!idx.images.empty()) result.idx = idx;
  return result;
}

}  // namespace cosub::tools
