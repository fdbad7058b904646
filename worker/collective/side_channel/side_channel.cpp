#include "worker/collective/side_channel/side_channel.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "common/process.h"
#include "worker/collective/side_channel/side_addresses.h"
#include "worker/collective/side_channel/side_end.h"
#include "worker/collective/wait_error.h"

namespace cosub::collective {
namespace {

namespace asio = boost::asio;

/// How the peers reach rank 0; nothing where it could not listen.
struct Door {
  std::string token;
  std::uint16_t port = 0;
  std::vector<asio::ip::address> addresses;
};

std::string to_text(const Door& door) {
  nlohmann::json json = {{"token", door.token}, {"port", door.port}, {"addresses", nlohmann::json::array()}};
  for (const auto& address : door.addresses) json["addresses"].push_back(address.to_string());
  return json.dump();
}

Door door_from(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  Door door{json.at("token").get<std::string>(), json.at("port").get<std::uint16_t>(), {}};
  for (const auto& address : json.at("addresses")) {
    door.addresses.push_back(asio::ip::make_address(address.get<std::string>()));
  }
  return door;
}

}  // namespace

struct SideChannel::Running {
  explicit Running(const PlaceCell& cell) : watch(cell) {}
  ~Running() {
    context.stop();
    if (thread.joinable()) thread.join();
  }

  /// Rank 0. The door stays shut where nothing can be listened on.
  Door open(SideSetup setup, const SideChannelOptions& options, bool one_host) {
    try {
      const ListenAddresses where = listen_addresses(options.advertise, one_host);
      Door door{setup.token, 0, where.reach};
      auto hub = make_side_hub(context, std::move(setup), where.bind);
      door.port = hub->port();
      end = std::move(hub);
      return door;
    } catch (const std::exception& error) {
      spdlog::warn("{}: a rank that stops answering will not be named", error.what());
      return {};
    }
  }

  void start() {
    thread = std::thread([this] {
      name_thread("side channel");
      try {
        context.run();
      } catch (const std::exception& error) {
        spdlog::warn("side channel: {}: this rank's end of it has ended", error.what());
      }
    });
  }

  asio::io_context context{1};
  PlaceWatch watch;              // the thread's
  std::unique_ptr<SideEnd> end;  // before the context, after the thread
  std::thread thread;
};

SideChannel::SideChannel(Communicator& communicator, const SideChannelOptions& options)
    : rank_(communicator.rank()), world_size_(communicator.world_size()) {
  if (world_size_ == 1) return;
  const std::string own_host = host_name();
  const auto hosts = communicator.all_gather_text(own_host, "hosts of the side channel");
  const auto boots = communicator.all_gather_text(boot_id(), "machines of the side channel");
  const auto all_equal = [](const std::vector<std::string>& texts) {
    return std::all_of(texts.begin(), texts.end(), [&](const auto& text) { return text == texts[0]; });
  };

  auto running = std::make_unique<Running>(cell_);
  SideSetup setup{.rank = rank_,
                  .hosts = hosts,
                  .token = rank_ == 0 ? new_uuid() : "",
                  .period = options.period,
                  .own_place = [watch = &running->watch](SideTime now) { return watch->look(now); }};
  Door door;
  if (rank_ == 0) door = running->open(setup, options, all_equal(hosts) && all_equal(boots));
  const auto doors = communicator.all_gather_text(rank_ == 0 ? to_text(door) : "", "the side channel's port");
  if (rank_ != 0) door = door_from(doors.at(0));
  if (door.port == 0) return;
  if (rank_ != 0) {
    setup.token = door.token;
    running->end = make_side_peer(running->context, std::move(setup), door.addresses, door.port);
  }
  running->start();
  running_ = std::move(running);
}

SideChannel::~SideChannel() = default;

Board SideChannel::board() const {
  return running_ ? running_->end->board() : Board{};
}

std::string SideChannel::explain(const CollectiveError& error) const {
  const Diagnosis diagnosis = running_ ? running_->end->diagnosis() : Diagnosis{};
  if (const auto* late = dynamic_cast<const WaitLimitError*>(&error)) {
    return late->explained(diagnosis.ranks, diagnosis.text);
  }
  // MPI or NCCL failed by itself: only who is gone or silent is news.
  return diagnosis.ranks.empty() ? error.what() : fmt::format("{}: {}", error.what(), diagnosis.text);
}

}  // namespace cosub::collective
