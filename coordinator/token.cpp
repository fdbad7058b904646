#include "coordinator/token.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "common/atomic_file.h"
#include "common/error.h"

namespace cosub::coordinator {

std::string new_token() {
  std::array<unsigned char, 32> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    throw IoError(fmt::format("getrandom: {}", std::strerror(errno)));
  std::string text;
  for (unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

bool same_token(std::string_view given, std::string_view expected) {
  if (given.size() != expected.size() || expected.empty()) return false;
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < given.size(); ++i)
    difference = static_cast<unsigned char>(difference | (given[i] ^ expected[i]));
  return difference == 0;
}

std::string token_from(const std::filesystem::path& file) {
  namespace fs = std::filesystem;
  if (!fs::exists(file)) write_file_atomically(file, new_token() + "\n", 0600);
  constexpr fs::perms others = fs::perms::group_all | fs::perms::others_all;
  if ((fs::status(file).permissions() & others) != fs::perms::none) {
    spdlog::warn("{}: others could read this token; permissions set to 0600", file.string());
    fs::permissions(file, fs::perms::owner_read | fs::perms::owner_write);
  }
  std::string token = read_file(file);
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  if (token.size() < 32)
    throw ConfigError(fmt::format("{}: holds no token (at least 32 characters): remove it, a new one is made",
                                  file.string()));
  return token;
}

}  // namespace cosub::coordinator
