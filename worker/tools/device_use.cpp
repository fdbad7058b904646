#include "worker/tools/device_use.h"

#include <fmt/format.h>

#include <algorithm>

namespace cosub::tools {
namespace {

/// How many run from here on, more or fewer than before.
struct Change {
  std::uint64_t at_ns;
  std::int64_t communicating, computing;
};

}  // namespace

DeviceUse device_use(const std::vector<KernelRun>& runs) {
  std::vector<Change> changes;
  for (const KernelRun& run : runs) {
    const std::int64_t communicating = run.communicates ? 1 : 0, computing = run.communicates ? 0 : 1;
    changes.push_back({run.begin_ns, communicating, computing});
    changes.push_back({run.end_ns, -communicating, -computing});
  }
  std::ranges::sort(changes, {}, &Change::at_ns);
  DeviceUse use;
  std::int64_t communicating = 0, computing = 0;
  for (std::size_t i = 0; i + 1 < changes.size(); ++i) {
    communicating += changes[i].communicating;
    computing += changes[i].computing;
    const double seconds = static_cast<double>(changes[i + 1].at_ns - changes[i].at_ns) * 1e-9;
    use.span += seconds;
    if (communicating + computing > 0) use.busy += seconds;
    if (communicating > 0) use.communication += seconds;
    if (communicating > 0 && computing == 0) use.exposed += seconds;
  }
  return use;
}

bool is_communication(const std::string& kernel) {
  return kernel.starts_with("nccl");
}

std::string device_use_text(const DeviceUse& use, std::int64_t steps) {
  if (use.span <= 0) return "";
  const auto ms = [steps](double seconds) { return 1e3 * seconds / static_cast<double>(steps); };
  std::string text = fmt::format("GPU busy {:.1f} of {:.1f} ms a step ({:.1f} %)", ms(use.busy), ms(use.span),
                                 100 * use.busy / use.span);
  if (use.communication > 0) {
    text += fmt::format("; communication {:.1f} ms, of which {:.1f} ms exposed ({:.1f} % of the step)",
                        ms(use.communication), ms(use.exposed), 100 * use.exposed / use.span);
  }
  return text;
}

}  // namespace cosub::tools
