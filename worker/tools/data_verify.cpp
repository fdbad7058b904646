#include "worker/tools/data_verify.h"

#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "common/error.h"
#include "worker/data/source.h"
#include "worker/tools/verify_samples.h"

namespace cosub::tools {
namespace {

CheckSample make_check(const data::Source& source, std::int64_t classes) {
  struct Buffers {
    data::ByteBuffer stored;
    data::Image image;
  };
  return [&source, classes, buffers = std::make_shared<Buffers>()](std::int64_t index) {
    if (source.label(index) >= classes) {
      throw DataError(fmt::format("{}: its label is {}; --classes is {}, so labels are 0 to {}",
                                  source.name(index), source.label(index), classes, classes - 1));
    }
    const data::StoredImage stored = source.read(index, buffers->stored);
    data::naming(source, index, [&] {
      const data::StoredImage::Shape shape = data::shape_of(stored);
      data::decode(stored, {0, 0, shape.height, shape.width}, source.channels(), buffers->image);
    });
  };
}

}  // namespace

ExitCode run_data_verify(const DataVerifyOptions& options) {
  const auto source = data::open_source(options.source.get(), options.channels, data::kAnyLabel);
  const std::map<std::int64_t, std::string> bad =
      verify_samples(source->size(), options.threads, [&] { return make_check(*source, options.classes); });
  for (const auto& [index, reason] : bad) fmt::print("{}\n", reason);
  fmt::print("{} samples, {} bad\n", source->size(), bad.size());
  return bad.empty() ? ExitCode::kDone : ExitCode::kBadInput;
}

}  // namespace cosub::tools
