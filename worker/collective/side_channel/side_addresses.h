// Where rank 0 listens for the side channel, and under which addresses the other hosts may find it.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <string>
#include <vector>

namespace cosub::collective {

struct ListenAddresses {
  boost::asio::ip::address bind;
  std::vector<boost::asio::ip::address> reach;  // to be tried in this order
};

/// `advertise` where it is given (ConfigError when it is no numeric address); else loopback for ranks of one
/// host; else all IPv4 addresses of this host's interfaces that are up, loopback apart.
ListenAddresses listen_addresses(const std::string& advertise, bool one_host);

}  // namespace cosub::collective
