#include "common/http_address.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include "common/error.h"

namespace cosub::http {

std::string Address::text() const {
  const bool is_ipv6 = host.find(':') != std::string::npos;
  return is_ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Address parse_address(const std::string& text) {
  const auto refuse = [&](const char* why) {
    throw ConfigError(fmt::format(
        "address '{}' {}; it must be host:port or http://host:port, e.g. 127.0.0.1:7070", text, why));
  };
  std::string_view rest = text;
  if (rest.starts_with("https://")) refuse("wants TLS, which this program does not speak");
  if (rest.starts_with("http://")) rest.remove_prefix(7);
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) refuse("has no port");
  std::string_view host = rest.substr(0, colon);
  const std::string_view port = rest.substr(colon + 1);
  Address address;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc() || end != port.data() + port.size() || address.port == 0)
    refuse("has no valid port");
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    refuse("has an IPv6 host without brackets");
  }
  if (host.empty() || host.find_first_of(" /?#@[]\t\r\n") != std::string_view::npos)
    refuse("has no valid host");
  address.host = host;
  return address;
}

}  // namespace cosub::http
