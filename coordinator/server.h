// The running coordinator: one thread, one strand. Holds store, supervisor, API, HTTP server and the timer
// that makes the supervisor look; made and run by main().
#pragma once

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <string>
#include <vector>

namespace cosub::coordinator {

struct ServerOptions {
  std::filesystem::path state;
  std::string listen;     // host:port; empty: 127.0.0.1 and the port of last time, or a free one
  std::string advertise;  // host[:port] that workers reach us at; empty: what we listen on
  int parent_fd = -1;     // end with whoever holds the other end of this pipe
  bool allow_network_state = false;
  std::filesystem::path worker;  // the worker program; empty: beside this one
  std::vector<std::string> launcher_flags;
};

/// Runs until told to end by a signal or by the pipe's end. ConfigError when the address is taken, the state
/// folder is another's or the database is damaged.
void run_server(const ServerOptions& options);

}  // namespace cosub::coordinator
