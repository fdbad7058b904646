// Bearer tokens: made from the kernel's random numbers, compared in constant time.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace cosub::coordinator {

std::string new_token();  // 32 random bytes, lower-case hex

/// Takes equally long wherever two tokens of the same length differ.
bool same_token(std::string_view given, std::string_view expected);

/// The token in `file`; made (0600) where there is none yet. Takes group's and others' permissions away.
std::string token_from(const std::filesystem::path& file);

}  // namespace cosub::coordinator
