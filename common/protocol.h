// The messages between cosub, the coordinator and rank 0 of each job, and their JSON. One struct a message;
// fields are named alike in JSON. Unknown fields are ignored (a newer peer), missing or ill-typed ones are
// ProtocolError naming message and field. Times are seconds on the sender's clock for display only: nothing
// is decided by them.
//
//   GET  /healthz                                no token
//   POST /v1/pipelines               Submit   -> PipelineView
//   GET  /v1/pipelines                        -> [PipelineView]
//   GET  /v1/pipelines/NAME                   -> PipelineView
//   POST /v1/pipelines/NAME/stop     Stop     -> PipelineView
//   POST /v1/pipelines/NAME/resume            -> PipelineView
//   POST /v1/attempts/UUID/report    Report   -> Directive      (the attempt's own token)
//   GET  /v1/sd                               -> Prometheus http_sd targets
//   GET  /metrics                             -> the coordinator's own
// Errors: {"error": "what happened and what to do"} with 400, 401, 404, 409, 410 (void attempt).
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace cosub::protocol {

struct Submit {
  std::string yaml{};  // the resolved pipeline (config::to_yaml)
};

struct Stop {
  bool now = false;  // true: no checkpoint, at once
  std::string reason{};
};

/// How far a stage is. Loss and accuracies are of the last log interval, images/s over all ranks.
struct Progress {
  std::string phase = "starting";  // starting | training | evaluating | exporting | checkpointing | done
  std::int64_t step = 0;
  std::int64_t total_steps = 0;
  double epoch = 0;
  double loss = 0;
  double top1 = 0;       // share, training accuracy so far (of a mixed target any of the largest classes)
  double val_top1 = -1;  // share, of the EMA (or model) on the validation set; -1: none yet
  double images_per_second = 0;
  double data_wait = 0;      // share of the last log interval's time that rank 0 waited for data
  double seconds_left = -1;  // -1: not known
  std::int64_t bad_samples = 0;
  std::int64_t skipped_steps = 0;     // left out: loss or gradients were not finite
  std::int64_t checkpoint_step = -1;  // newest committed; -1: none
};

/// Rank 0 -> coordinator, every second and at each change of phase.
struct Report {
  std::string uuid{};
  std::int64_t attempt = 0;
  std::int64_t generation = 0;  // of the coordinator that the worker last heard from
  Progress progress{};
  std::vector<std::string> metrics_addresses{};  // host:port by rank
};

struct Directive {
  std::string action = "none";  // none | stop | stop_now | void
  std::int64_t generation = 0;
};

struct AttemptView {
  std::int64_t number = 0;
  std::string uuid{};
  std::string state{};   // starting | running | stopping | ended
  std::string reason{};  // how it ended, in words
  int exit_code = -1;
  std::string folder{};  // attempts/N, absolute
  double seconds = 0;
};

struct StageView {
  std::string name{};
  std::string task{};
  std::string state{};   // waiting | ready | running | backoff | stopping | stopped | succeeded | failed
  std::string reason{};  // why it is so, in words
  Progress progress{};
  std::map<std::string, double> results{};  // final metrics by name, e.g. top1, submodels.even.top1
  std::string export_path{};                // of an export stage
  std::vector<AttemptView> attempts{};
  std::vector<std::string> metrics_addresses{};
  double seconds = 0;  // spent in attempts
};

struct PipelineView {
  std::string name{};
  std::string state{};  // running | blocked (see reason) | stopping | stopped | succeeded | failed
  std::string reason{};
  std::string folder{};  // runs/NAME, absolute
  std::vector<StageView> stages{};
};

void to_json(nlohmann::json&, const Submit&);
void from_json(const nlohmann::json&, Submit&);
void to_json(nlohmann::json&, const Stop&);
void from_json(const nlohmann::json&, Stop&);
void to_json(nlohmann::json&, const Progress&);
void from_json(const nlohmann::json&, Progress&);
void to_json(nlohmann::json&, const Report&);
void from_json(const nlohmann::json&, Report&);
void to_json(nlohmann::json&, const Directive&);
void from_json(const nlohmann::json&, Directive&);
void to_json(nlohmann::json&, const AttemptView&);
void from_json(const nlohmann::json&, AttemptView&);
void to_json(nlohmann::json&, const StageView&);
void from_json(const nlohmann::json&, StageView&);
void to_json(nlohmann::json&, const PipelineView&);
void from_json(const nlohmann::json&, PipelineView&);

/// Text -> message; ProtocolError naming the message and the field. For every message above and for
/// std::vector<PipelineView>. A number that is NaN or infinite travels as null and arrives as NaN.
template <class Message>
Message parse(const std::string& json_text);
template <class Message>
std::string dump(const Message& message);

}  // namespace cosub::protocol
