#include "worker/collective/side_channel/side_addresses.h"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <boost/asio/ip/address_v4.hpp>
#include <cerrno>
#include <memory>

#include "common/error.h"

namespace cosub::collective {
namespace {

namespace ip = boost::asio::ip;

std::vector<ip::address> interface_addresses() {
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) throw IoError("cannot list this host's network addresses", errno);
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> list(first, &::freeifaddrs);
  std::vector<ip::address> addresses;
  for (const ifaddrs* one = first; one != nullptr; one = one->ifa_next) {
    const bool is_usable = (one->ifa_flags & IFF_UP) != 0 && (one->ifa_flags & IFF_LOOPBACK) == 0;
    if (!is_usable || one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
    const auto* address = reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
    addresses.push_back(ip::address_v4(ntohl(address->sin_addr.s_addr)));
  }
  return addresses;
}

}  // namespace

ListenAddresses listen_addresses(const std::string& advertise, bool one_host) {
  if (!advertise.empty()) {
    boost::system::error_code error;
    const ip::address address = ip::make_address(advertise, error);
    if (error) throw ConfigError(fmt::format("the advertised address '{}' is no numeric address", advertise));
    if (!address.is_unspecified()) return {address, {address}};
  }
  if (one_host) return {ip::address_v4::loopback(), {ip::address_v4::loopback()}};
  return {ip::address_v4::any(), interface_addresses()};
}

}  // namespace cosub::collective
