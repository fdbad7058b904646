// One end of the side channel: the hub on rank 0, a peer on every other rank. Each lives on an io_context
// that one thread runs; board() and diagnosis() may be called from any thread. Nothing here throws for what a
// socket does: what breaks is opened again, and who is silent is logged once.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "worker/collective/side_channel/board_keeper.h"

namespace cosub::collective {

struct SideSetup {
  std::int64_t rank = 0;
  std::vector<std::string> hosts = {};  // by rank
  std::string token = {};               // known to the job's ranks alone
  std::chrono::milliseconds period{1000};
  std::function<PlaceReport(SideTime)> own_place = {};  // asked by the context's thread
};

class SideEnd {
 public:
  virtual ~SideEnd() = default;
  virtual Board board() const = 0;
  /// Who keeps this rank waiting, or did until a moment ago.
  virtual Diagnosis diagnosis() const = 0;
};

/// Rank 0: accepts the peers, notes what they say, and sends each of them the board every period.
class SideHub : public SideEnd {
 public:
  virtual std::uint16_t port() const = 0;
};
/// Listens at once on a free port of `address`; IoError when it cannot. Must be destroyed before the context,
/// and after whoever runs it has stopped.
std::unique_ptr<SideHub> make_side_hub(boost::asio::io_context& context, SideSetup setup,
                                       const boost::asio::ip::address& address);

/// Any other rank: keeps a connection to one of `addresses`, with growing pauses where there is none.
std::unique_ptr<SideEnd> make_side_peer(boost::asio::io_context& context, SideSetup setup,
                                        std::vector<boost::asio::ip::address> addresses, std::uint16_t port);

}  // namespace cosub::collective
