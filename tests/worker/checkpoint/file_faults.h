// Stands between this test program and the C library's file calls (open, write, fsync, rename, ...): makes a
// chosen call fail with a chosen errno, or kills the process right before it. Off until asked for; for one
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace cosub::testing {

/// Calls named `call` on paths that contain `path_part` (with $ at its end: end in it) fail with
/// `error_number`: the first `skip` pass, then `times` fail.
struct FileFault {
  std::string call;  // open | read | pread | write | fsync | renameat2 | mkdir | unlinkat
  std::string path_part;
  int error_number = 0;
  int times = 1;
  int skip = 0;
  std::function<void()> action =
      {};  // done first, at each of those calls; with error_number 0 the call then passes
};

/// In force as long as the object.
class FaultScope {
 public:
  explicit FaultScope(FileFault fault);
  ~FaultScope();
  int num_failed() const;
};

/// SIGKILL right before the n-th call (from 1) that changes something on disk.
void kill_before_file_call(std::int64_t n);

}  // namespace cosub::testing
