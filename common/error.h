// The small family of exceptions that cross component borders. Each carries a sentence a person can act on
// and the exit code its program ends with. Ordinary outcomes (disconnect, time-out, refusal) are values, not
// these.
#pragma once

#include <stdexcept>
#include <string>

#include "common/exit_code.h"

namespace cosub {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ExitCode code = ExitCode::kFailure)
      : std::runtime_error(message), code_(code) {}
  ExitCode exit_code() const { return code_; }

 private:
  ExitCode code_;
};

/// Configuration or command line that fails again however often it is tried.
class ConfigError : public Error {
 public:
  explicit ConfigError(const std::string& message) : Error(message, ExitCode::kBadInput) {}
};

/// Samples, labels, weights or checkpoints whose content is wrong (not: could not be read just now).
class DataError : public Error {
 public:
  explicit DataError(const std::string& message) : Error(message, ExitCode::kBadInput) {}
};

/// The operating system refused (no space, no permission, EIO, ...). May pass on a retry.
class IoError : public Error {
 public:
  using Error::Error;
  IoError(const std::string& message, int error_number) : Error(message), error_number_(error_number) {}
  int error_number() const { return error_number_; }  // errno; 0 where there was none

 private:
  int error_number_ = 0;
};

/// A peer spoke something else than our HTTP messages, or refused us.
class ProtocolError : public Error {
 public:
  using Error::Error;
};

/// A collective failed or passed its time limit.
class CollectiveError : public Error {
 public:
  using Error::Error;
};

/// Loss or gradients became infinite or not a number.
class NonFiniteError : public Error {
 public:
  using Error::Error;
};

}  // namespace cosub
