#include "launcher/commands/connection.h"

#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/error.h"

namespace cosub::commands {

namespace fs = std::filesystem;

std::optional<Endpoint> read_endpoint(const fs::path& state_folder) {
  const fs::path file = state_folder / "address.json";
  if (!fs::exists(file)) return std::nullopt;
  try {
    const auto json = nlohmann::json::parse(read_file(file));
    Endpoint endpoint;
    endpoint.address = json.at("address").get<std::string>();
    endpoint.process.pid = json.at("pid").get<pid_t>();
    endpoint.process.start_time = json.at("start_time").get<std::uint64_t>();
    endpoint.generation = json.at("generation").get<std::int64_t>();
    return endpoint;
  } catch (const nlohmann::json::exception& error) {
    throw IoError(fmt::format("{} is damaged ({}); remove it and start the coordinator again", file.string(),
                              error.what()));
  }
}

fs::path private_state_folder(const fs::path& run_folder) {
  return run_folder / ".coordinator";
}

fs::path choose_state_folder(const std::string& given, const std::string& pipeline, const fs::path& runs) {
  if (!given.empty()) return given;
  if (const char* from_environment = std::getenv("COSUB_STATE")) return from_environment;
  if (!pipeline.empty()) {
    const fs::path own = private_state_folder(runs / pipeline);
    const auto endpoint = read_endpoint(own);
    if (endpoint && is_alive(endpoint->process)) return own;
  }
  const char* home = std::getenv("HOME");
  return fs::path(home ? home : ".") / ".local" / "state" / "cosub";
}

Connection::Connection(const fs::path& state_folder) {
  const auto endpoint = read_endpoint(state_folder);
  if (!endpoint || !is_alive(endpoint->process)) {
    throw IoError(fmt::format(
        "no coordinator runs with the state folder {}. Start one with 'cosub-coordinator --state {}', "
        "name another one with --state, or use 'cosub run', which brings its own",
        state_folder.string(), state_folder.string()));
  }
  address_ = endpoint->address;
  token_file_ = state_folder / "token";
  std::string token;
  try {
    token = read_file(token_file_);
  } catch (const IoError& error) {
    throw IoError(fmt::format("{}. {}", error.what(), token_remedy()));
  }
  while (!token.empty() && (token.back() == '\n' || token.back() == ' ')) token.pop_back();
  client_ = std::make_unique<http::Client>(address_, token);
}

std::string Connection::token_remedy() const {
  return fmt::format(
      "The coordinator at {} wants the token that it wrote to {} when it started. Put that back, "
      "or remove the file and start the coordinator again: it makes a new one, and its jobs run on",
      address_, token_file_.string());
}

std::string Connection::checked(const http::Result& result) const {
  if (result.ok()) return result.body;
  if (result.status == 0)
    throw IoError(fmt::format("the coordinator at {} does not answer: {}", address_, result.failure));
  std::string text = result.body;
  const auto json = nlohmann::json::parse(result.body, nullptr, false);
  if (json.is_object() && json.contains("error") && json["error"].is_string())
    text = json["error"].get<std::string>();
  if (result.status == 401)
    throw ProtocolError(
        fmt::format("{} does not hold the right token. {}", token_file_.string(), token_remedy()));
  const bool may_pass = result.status >= 500;
  const ExitCode code = may_pass ? ExitCode::kFailure : ExitCode::kBadInput;
  throw ProtocolError(text, code);
}

std::vector<protocol::PipelineView> Connection::pipelines() {
  const auto json = nlohmann::json::parse(checked(client_->get("/v1/pipelines")), nullptr, false);
  if (!json.is_array()) throw ProtocolError("the coordinator's list of pipelines is no JSON array");
  std::vector<protocol::PipelineView> views;
  for (const auto& item : json) views.push_back(protocol::parse<protocol::PipelineView>(item.dump()));
  return views;
}

protocol::PipelineView Connection::pipeline(const std::string& name) {
  return protocol::parse<protocol::PipelineView>(checked(client_->get("/v1/pipelines/" + name)));
}

protocol::PipelineView Connection::submit(const std::string& yaml) {
  return protocol::parse<protocol::PipelineView>(
      checked(client_->post("/v1/pipelines", protocol::dump(protocol::Submit{yaml}))));
}

protocol::PipelineView Connection::stop(const std::string& name, bool now, const std::string& reason) {
  return protocol::parse<protocol::PipelineView>(
      checked(client_->post("/v1/pipelines/" + name + "/stop", protocol::dump(protocol::Stop{now, reason}))));
}

std::optional<protocol::PipelineView> Connection::try_pipeline(const std::string& name) {
  const http::Result result = client_->get("/v1/pipelines/" + name);
  if (result.status == 0) return std::nullopt;
  return protocol::parse<protocol::PipelineView>(checked(result));
}

}  // namespace cosub::commands
