#include "worker/tools/data_verify.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/error.h"
#include "worker/data/source.h"

namespace cosub::tools {
namespace {

/// Samples are taken one by one by all threads.
class Verifier {
 public:
  Verifier(const data::Source& source, std::int64_t threads) : source_(source) {
    std::vector<std::jthread> others;
    for (std::int64_t i = 0; i < threads; ++i) others.emplace_back([this] { work(); });
  }
  /// What is wrong, by sample.
  const std::map<std::int64_t, std::string>& bad() const {
    if (error_) std::rethrow_exception(error_);
    return bad_;
  }

 private:
  void work() {
    data::ByteBuffer buffer;
    data::Image image;
    for (std::int64_t i; (i = next_++) < source_.size();) {
      try {
        check(i, buffer, image);
      } catch (const DataError& error) {
        const std::lock_guard lock(mutex_);
        bad_[i] = error.what();
      } catch (...) {  // the storage failed: not this sample's fault
        const std::lock_guard lock(mutex_);
        error_ = std::current_exception();
        next_ = source_.size();
      }
      if (i % 1000 == 999 && ::isatty(STDERR_FILENO) != 0)
        fmt::print(stderr, "\r{} of {}", i + 1, source_.size());
    }
  }

  void check(std::int64_t index, data::ByteBuffer& buffer, data::Image& image) const {
    const data::StoredImage stored = source_.read(index, buffer);
    data::naming(source_, index, [&] {
      const data::StoredImage::Shape shape = data::shape_of(stored);
      data::decode(stored, {0, 0, shape.height, shape.width}, source_.channels(), image);
    });
  }

  const data::Source& source_;
  std::atomic<std::int64_t> next_ = 0;
  std::mutex mutex_;
  std::map<std::int64_t, std::string> bad_;
  std::exception_ptr error_;
};

}  // namespace

ExitCode run_data_verify(const DataVerifyOptions& options) {
  const auto source = data::open_source(options.source.get(), options.channels, options.classes);
  const Verifier verifier(*source, options.threads);
  for (const auto& [index, reason] : verifier.bad()) fmt::print("{}\n", reason);
  fmt::print("{} samples, {} bad\n", source->size(), verifier.bad().size());
  return verifier.bad().empty() ? ExitCode::kDone : ExitCode::kBadInput;
}

}  // namespace cosub::tools
