// What a worker's exit status means to whoever started it (sysexits.h values where one fits).
#pragma once

namespace cosub {

enum class ExitCode : int {
  kDone = 0,          // the stage is complete
  kFailure = 1,       // retry from the last checkpoint
  kUsage = 64,        // EX_USAGE: the command line itself is wrong
  kInterrupted = 75,  // EX_TEMPFAIL: stopped on request after writing a checkpoint; can be continued
  kBadInput = 78,     // EX_CONFIG: the same input will fail again; never retried
};

}  // namespace cosub
