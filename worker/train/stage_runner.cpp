#include "worker/train/stage_runner.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/error.h"
#include "common/random.h"
#include "worker/data/source.h"
#include "worker/train/agreement.h"
#include "worker/train/config_table.h"
#include "worker/train/device.h"
#include "worker/train/error_record.h"
#include "worker/train/job.h"
#include "worker/train/task/evaluate.h"
#include "worker/train/task/export.h"
#include "worker/train/trainer.h"

namespace cosub::train {
namespace {

/// Which attempt this is, as the coordinator (launch.json, token) or the fence says.
struct Attempt {
  std::int64_t number = 0;
  std::string uuid;
  std::string token;
};

Attempt read_attempt(const std::filesystem::path& folder, const StageFolder& stage) {
  if (folder.empty()) return {.number = read_fence(stage), .uuid = {}, .token = {}};
  std::filesystem::path launch = folder / "launch.json";
  try {
    nlohmann::json json = nlohmann::json::parse(read_file(launch));
    std::string token = read_file_if_there(folder / "token").value_or("");
    while (!token.empty() && token.back() == '\n') token.pop_back();
    return {.number = json.at("attempt").get<std::int64_t>(),
            .uuid = json.at("uuid").get<std::string>(),
            .token = token};
  } catch (const nlohmann::json::exception& error) {
    throw ConfigError(
        fmt::format("{}: {}: the coordinator writes this file before it starts an attempt; to run a "
                    "stage by hand leave --attempt-folder out",
                    launch.string(), error.what()));
  }
}

void check_fence(const StageFolder& stage, const Attempt& attempt) {
  std::int64_t fence = read_fence(stage);
  if (fence > attempt.number)
    throw Error(fmt::format("attempt {} is stale: attempt {} has taken over {}", attempt.number, fence,
                            stage.root.string()));
}

void set_threads(std::int64_t threads) {
  at::set_num_threads(static_cast<int>(threads));
  at::set_num_interop_threads(1);
}

/// Where other hosts reach this one, "" where nobody said.
std::string advertised_address() {
  const char* advertised = std::getenv("COSUB_ADVERTISE");
  return advertised != nullptr ? advertised : "";
}

std::string metrics_address() {
  const std::string advertised = advertised_address();
  return advertised.empty() ? "127.0.0.1" : advertised;
}

void connect_reporter(Job& job, const RunOptions& options, const Attempt& attempt) {
  std::string mine = fmt::format("{}:{}", metrics_address(), job.telemetry.metrics_port());
  std::vector<std::string> addresses = job.communicator.all_gather_text(mine, "addresses of the metrics");
  if (!job.is_root()) return;
  for (std::size_t rank = 0; rank < addresses.size(); ++rank)
    spdlog::info("rank {}: http://{}/metrics", rank, addresses[rank]);
  if (options.attempt_folder.empty()) return;
  job.telemetry.report_through(
      std::make_unique<Reporter>(Reporter::Options{.stage = job.folder,
                                                   .attempt_folder = options.attempt_folder,
                                                   .uuid = attempt.uuid,
                                                   .attempt = attempt.number,
                                                   .token = attempt.token},
                                 addresses));
}

std::shared_ptr<const data::Source> open(Job& job, const config::SourceConfig& source,
                                         const std::string& what) {
  std::shared_ptr<const data::Source> opened;
  on_all_ranks(job.communicator, "opening " + what, [&] {
    if (!source.given())
      throw ConfigError(
          fmt::format("stage {}: {} is not given: the task {} needs it", job.stage().name, what,
                      job.stage().task == config::TaskKind::kEvaluate ? "evaluate" : "classify"));
    opened = data::open_source(source, job.stage().model.channels, job.stage().model.classes);
  });
  return opened;
}

ExitCode run_task(Job& job) {
  const config::DataConfig& data = job.stage().data;
  switch (job.stage().task) {
    case config::TaskKind::kClassify: {
      auto train = open(job, data.train, "data.train");
      auto val = data.val.given() ? open(job, data.val, "data.val") : nullptr;
      return Trainer(job, train, val).run();
    }
    case config::TaskKind::kEvaluate:
      return run_evaluate(job, open(job, data.val, "data.val"));
    case config::TaskKind::kExport:
      return run_export(job);
  }
  throw std::logic_error("unknown task");
}

/// Often enough that a wait which passes the limit has seen who was silent.
std::chrono::milliseconds side_channel_period(std::chrono::milliseconds collective_timeout) {
  using std::chrono::milliseconds;
  return std::clamp(collective_timeout / 10, milliseconds(50), milliseconds(1000));
}

/// What went wrong between the ranks is told by who knows most of them.
ExitCode run_and_explain(Job& job) {
  try {
    return run_task(job);
  } catch (const CollectiveError& error) {
    throw CollectiveError(job.side_channel.explain(error), error.exit_code());
  }
}

/// Everything between "the ranks know each other" and the exit code.
ExitCode run_connected(collective::Communicator& ranks, const RunOptions& options) {
  config::StageFile file;
  Attempt attempt;
  on_all_ranks(ranks, "reading the stage", [&] {
    file = config::load_stage_file(options.stage_yaml);
    attempt = read_attempt(options.attempt_folder, StageFolder{file.stage_folder});
    check_fence(StageFolder{file.stage_folder}, attempt);
    if (ranks.rank() == 0) std::filesystem::create_directories(file.stage_folder);
  });
  ranks.set_limit(file.stage.collective_timeout);
  check_shared_folder(ranks, file.stage_folder);
  set_threads(file.stage.threads);
  if (ranks.rank() == 0)
    spdlog::info("stage {} on {} ranks\n{}", file.stage.name, ranks.world_size(), config_table(file));

  DeviceChoice device = choose_device(ranks, file.stage.device);
  device.communicator->set_limit(file.stage.collective_timeout);
  if (ranks.rank() == 0)
    spdlog::info("tensors are on {} and travel by {}", device.device.is_cpu() ? "CPUs" : "GPUs, one a rank",
                 device.communicator->name());
  collective::SideChannel side_channel(ranks, {.advertise = advertised_address(),
                                               .period = side_channel_period(file.stage.collective_timeout)});
  Telemetry telemetry(metrics_address(), {{"pipeline", file.pipeline},
                                          {"stage", file.stage.name},
                                          {"rank", std::to_string(ranks.rank())},
                                          {"attempt", std::to_string(attempt.number)}});
  Job job{.file = file,
          .folder = StageFolder{file.stage_folder},
          .attempt = attempt.number,
          .stream = stream_seed(file.seed, file.stage.name),
          .communicator = *device.communicator,
          .device = device.device,
          .telemetry = telemetry,
          .side_channel = side_channel,
          .late_results = !device.device.is_cpu()};
  connect_reporter(job, options, attempt);
  ExitCode code = run_and_explain(job);
  if (code == ExitCode::kDone) telemetry.set_phase("done");
  return code;
}

void record(const RunOptions& options, std::int64_t rank, const std::string& reason, ExitCode code) {
  spdlog::error("rank {}: {}", rank, reason);
  write_error_record(options.attempt_folder,
                     {.rank = rank, .reason = reason, .exit_code = static_cast<int>(code)});
}

}  // namespace

ExitCode run_stage(const RunOptions& options) {
  std::unique_ptr<collective::Communicator> ranks;
  std::string reason;
  ExitCode code = ExitCode::kFailure;
  try {
    ranks = collective::connect();
    return run_connected(*ranks, options);
  } catch (const AgreedError& error) {
    if (ranks->rank() == error.rank()) record(options, error.rank(), error.what(), error.exit_code());
    ranks->barrier("the end after an error");  // so that the one who knows the reason has recorded it
    return error.exit_code();
  } catch (const NonFiniteError& error) {  // read off the reduced vector: every rank is here
    if (ranks->rank() == 0) record(options, 0, error.what(), error.exit_code());
    ranks->barrier("the end after a diverged step");
    return error.exit_code();
  } catch (const Error& error) {
    reason = error.what();
    code = error.exit_code();
  } catch (const c10::Error& error) {
    reason = error.what_without_backtrace();
  } catch (const std::exception& error) {
    reason = error.what();
  }
  record(options, ranks ? ranks->rank() : rank_from_environment(), reason, code);
  // The others may be waiting for this rank in a collective: nobody could end in order.
  if (ranks && ranks->world_size() > 1) ranks->abort(static_cast<int>(code));
  return code;
}

bool started_by_mpi() {
  return std::getenv("OMPI_COMM_WORLD_RANK") != nullptr || std::getenv("PMIX_RANK") != nullptr;
}

int rank_from_environment() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"})
    if (const char* value = std::getenv(name)) return std::atoi(value);
  return 0;
}

}  // namespace cosub::train
