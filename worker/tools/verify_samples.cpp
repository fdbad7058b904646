#include "worker/tools/verify_samples.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "common/error.h"
#include "worker/tools/progress_line.h"

namespace cosub::tools {

std::map<std::int64_t, std::string> verify_samples(std::int64_t count, std::int64_t threads,
                                                   const std::function<CheckSample()>& make_check) {
  std::atomic<std::int64_t> next = 0;
  std::mutex mutex;
  std::map<std::int64_t, std::string> bad;
  std::exception_ptr error;
  ProgressLine line("verify");
  std::int64_t done = 0;
  const auto run = [&] {
    const CheckSample check = make_check();
    for (std::int64_t i; (i = next++) < count;) {
      try {
        check(i);
      } catch (const DataError& what) {
        const std::lock_guard lock(mutex);
        bad[i] = what.what();
      } catch (...) {  // the storage failed: not this sample's fault
        const std::lock_guard lock(mutex);
        error = std::current_exception();
        next = count;
      }
      const std::lock_guard lock(mutex);
      ++done;
      line.show({.done = done, .of = count, .done_now = done});
    }
  };
  {
    std::vector<std::jthread> others;
    for (std::int64_t i = 0; i < threads; ++i) others.emplace_back(run);
  }
  if (error) std::rethrow_exception(error);
  return bad;
}

}  // namespace cosub::tools
