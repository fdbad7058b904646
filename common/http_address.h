// host:port as people and files write it. Used by http.cpp and its tests.
#pragma once

#include <cstdint>
#include <string>

namespace cosub::http {

struct Address {
  std::string host;  // without brackets where it is IPv6
  std::uint16_t port = 0;
  std::string text() const;  // fit for messages and the Host header
};

/// host:port, [IPv6]:port or http://host:port, with or without a final slash; ConfigError when it is none of
/// them.
Address parse_address(const std::string& text);

}  // namespace cosub::http
