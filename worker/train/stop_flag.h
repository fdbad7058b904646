// The request to stop: set by SIGUSR1 and SIGTERM, or by the coordinator's directive; read at step
// boundaries, where all ranks agree on it. One per process, since signal handlers are.
#pragma once

namespace cosub::train {

/// Lets SIGUSR1 and SIGTERM set the flag. First thing in a worker: before, these signals kill the process.
void install_stop_handlers();

void request_stop();  // any thread; async-signal-safe
bool stop_requested();
void clear_stop();  // for tests

}  // namespace cosub::train
