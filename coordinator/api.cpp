#include "coordinator/api.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/protocol.h"
#include "coordinator/token.h"

namespace cosub::coordinator {
namespace {

constexpr const char* kPipelines = "/v1/pipelines";
constexpr const char* kAttempts = "/v1/attempts/";
constexpr const char* kReport = "/report";

std::string text_of(const nlohmann::json& json) {
  // Reasons may quote what a program wrote: bytes that are no UTF-8 are replaced, not refused.
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

http::Response error(int status, const std::string& message) {
  return {status, text_of({{"error", message}})};
}

http::Response wrong_method(const http::Request& request) {
  return error(404, fmt::format("{} does not take {}", request.target, request.method));
}

std::string path_of(const std::string& target) {
  return target.substr(0, target.find('?'));
}

}  // namespace

http::Response Api::handle(const http::Request& request) {
  try {
    return route(request);
  } catch (const Refusal& refusal) {
    return error(refusal.status(), refusal.what());
  } catch (const ProtocolError& problem) {
    return error(400, problem.what());
  } catch (const Error& problem) {
    spdlog::error("{} {}: {}", request.method, request.target, problem.what());
    return error(500, problem.what());
  } catch (const std::exception& problem) {
    spdlog::error("{} {}: {}", request.method, request.target, problem.what());
    return error(500, fmt::format("{} (a mistake in the coordinator; see its log)", problem.what()));
  }
}

http::Response Api::route(const http::Request& request) {
  const std::string path = path_of(request.target);
  if (path == "/healthz") return {200, "{\"ok\": true}"};
  if (path.starts_with(kAttempts) && path.ends_with(kReport)) {
    const std::size_t begin = std::string(kAttempts).size(), end = path.size() - std::string(kReport).size();
    if (begin < end) return report(request, path.substr(begin, end - begin));
  }
  if (!same_token(request.bearer_token, token_))
    return error(
        401,
        "missing or wrong bearer token: send the content of the file `token` in the coordinator's state "
        "folder");
  if (path.starts_with(kPipelines)) {
    const std::string rest = path.substr(std::string(kPipelines).size());
    if (rest.empty() || rest.front() == '/') return pipelines(request, rest);
  }
  if (path == "/v1/sd" || path == "/metrics") {
    if (request.method != "GET") return wrong_method(request);
    if (path == "/v1/sd") return {200, text_of(supervisor_.service_discovery())};
    return {200, supervisor_.metrics_text(), "text/plain; version=0.0.4; charset=utf-8"};
  }
  return error(404, fmt::format("no such endpoint: {}", path));
}

/// `rest` is what follows /v1/pipelines: "", "/NAME", "/NAME/stop" or "/NAME/resume".
http::Response Api::pipelines(const http::Request& request, const std::string& rest) {
  const bool get = request.method == "GET", post = request.method == "POST";
  if (rest.empty()) {
    if (get) return {200, protocol::dump(supervisor_.list())};
    if (post)
      return {200, protocol::dump(supervisor_.submit(protocol::parse<protocol::Submit>(request.body).yaml))};
    return wrong_method(request);
  }
  const std::size_t slash = rest.find('/', 1);
  const std::string name = rest.substr(1, slash == std::string::npos ? slash : slash - 1);
  const std::string verb = slash == std::string::npos ? "" : rest.substr(slash + 1);
  if (verb.empty() && get) return {200, protocol::dump(supervisor_.view(name))};
  if (verb == "stop" && post) {
    const auto stop = request.body.empty() ? protocol::Stop{} : protocol::parse<protocol::Stop>(request.body);
    return {200, protocol::dump(supervisor_.stop(name, stop.now, stop.reason))};
  }
  if (verb == "resume" && post) return {200, protocol::dump(supervisor_.resume(name))};
  if (verb.empty() || verb == "stop" || verb == "resume") return wrong_method(request);
  return error(404, fmt::format("no such endpoint: {}", path_of(request.target)));
}

http::Response Api::report(const http::Request& request, const std::string& uuid) {
  if (request.method != "POST") return wrong_method(request);
  const auto message = protocol::parse<protocol::Report>(request.body);
  const protocol::Directive directive = supervisor_.report(uuid, request.bearer_token, message);
  if (directive.action != "void") return {200, protocol::dump(directive)};
  nlohmann::json body = directive;
  body["error"] =
      fmt::format("attempt {} is void: it ended, and another may have taken its place; stop", uuid);
  return {410, text_of(body)};
}

}  // namespace cosub::coordinator
