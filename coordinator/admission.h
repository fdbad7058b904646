// Whether a submitted pipeline may run, and with which state it begins: new, or going on where it was. Reads
// the run's folder, changes nothing. The Supervisor commits what comes out.
#pragma once

#include <string>

#include "common/error.h"
#include "coordinator/state.h"
#include "launcher/backends/backend.h"

namespace cosub::coordinator {

/// A request that cannot be done, with the HTTP status that says so. Nothing has changed.
class Refusal : public Error {
 public:
  Refusal(int status, const std::string& message) : Error(message), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

/// `known` is what the coordinator has under that name, or nullptr. Refusal 400 for a pipeline that is wrong
/// in itself, 409 for one that contradicts what is there: settings that decide the numbers may change only of
/// stages that have neither a checkpoint nor a result, and of which no attempt runs; these begin anew, what
/// is known of the others stays.
PipelineState admit(const config::PipelineConfig& config, const std::string& yaml, const PipelineState* known,
                    const launcher::Backend& backend);

/// Goal run again: stopped and failed stages wait for their turn with fresh counters, complete ones stay
/// unless their files are gone.
void go_on(PipelineState& pipeline);

}  // namespace cosub::coordinator
