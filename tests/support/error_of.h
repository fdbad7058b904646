// What a piece of work is refused with.
#pragma once

#include <string>

#include "common/error.h"

namespace cosub::testing {

/// The message of the error of that type that `work` throws, or "no error"; others pass through.
template <class ErrorType = DataError, class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const ErrorType& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace cosub::testing
