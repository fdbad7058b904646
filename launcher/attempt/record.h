// Reads what an ended job left in its attempt's folder and writes exit.json.
#pragma once

#include <chrono>
#include <filesystem>

#include "launcher/attempt/exit_reason.h"
#include "launcher/backends/backend.h"

namespace cosub::launcher {

/// The whole record of an ended job: adds log and error files to `end`, and the last reported step.
ExitRecord conclude(const std::filesystem::path& attempt_folder, JobEnd end);

/// Writes exit.json, again and again while the file system refuses (no space, most likely), for at most
/// `limit`; says so on stderr. False when it never went through.
bool record_exit(const std::filesystem::path& attempt_folder, const ExitRecord& record,
                 std::chrono::milliseconds limit);

}  // namespace cosub::launcher
