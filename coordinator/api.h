// The coordinator's HTTP face: the table in common/protocol.h, answered by the Supervisor. Every endpoint but
// /healthz wants the coordinator's bearer token; a report wants the token of its own attempt. Called on the
// supervisor's strand.
#pragma once

#include <string>

#include "common/http.h"
#include "coordinator/supervisor.h"

namespace cosub::coordinator {

class Api {
 public:
  Api(Supervisor& supervisor, std::string token) : supervisor_(supervisor), token_(std::move(token)) {}

  /// Never throws: what goes wrong becomes {"error": ...} with a status.
  http::Response handle(const http::Request& request);

 private:
  http::Response route(const http::Request& request);
  http::Response pipelines(const http::Request& request, const std::string& rest);
  http::Response report(const http::Request& request, const std::string& uuid);

  Supervisor& supervisor_;
  std::string token_;
};

}  // namespace cosub::coordinator
