#include "worker/tools/bench_step_report.h"

#include <fmt/format.h>

#include "common/config/names.h"
#include "common/text.h"
#include "worker/model/residual.h"
#include "worker/tools/spread.h"

namespace cosub::tools {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::vector<double> of_phase(const StepMeasurements& found, std::size_t phase) {
  std::vector<double> seconds;
  for (const auto& phases : found.phases) seconds.push_back(phases[phase]);
  return seconds;
}

std::vector<double> outside_phases(const StepMeasurements& found) {
  std::vector<double> seconds;
  for (std::size_t i = 0; i < found.phases.size(); ++i) {
    double rest = found.seconds[i];
    for (const double phase : found.phases[i]) rest -= phase;
    seconds.push_back(std::max(rest, 0.0));
  }
  return seconds;
}

std::vector<std::string> row(const std::string& name, const Spread& spread, double scale, int digits) {
  const auto cell = [&](double value) { return fmt::format("{:.{}f}", value * scale, digits); };
  return {name, cell(spread.min), cell(spread.median), cell(spread.max)};
}

Rows time_rows(const StepMeasurements& found) {
  const Spread seconds = Spread::of(found.seconds);
  Rows rows = {{"", "min", "median", "max"}};
  rows.push_back(row("images/s", seconds.per(static_cast<double>(found.images_per_step)), 1, 2));
  rows.push_back(row("step, ms", seconds, 1e3, 1));
  if (!found.knows_phases()) return rows;
  for (const auto& [phase, note] : {std::pair{train::Phase::kForward, ""},
                                    {train::Phase::kBackward, ""},
                                    {train::Phase::kReduce, " (exposed communication)"},
                                    {train::Phase::kWait, " (for slower ranks)"},
                                    {train::Phase::kUpdate, ""}}) {
    const auto i = static_cast<std::size_t>(phase);
    rows.push_back(
        row(fmt::format("  {}{}", train::kPhaseNames[i], note), Spread::of(of_phase(found, i)), 1e3, 1));
  }
  rows.push_back(row("  else (zeroing, sums, norm)", Spread::of(outside_phases(found)), 1e3, 1));
  rows.push_back(row("exchange, hidden or not", Spread::of(found.exchange_seconds), 1e3, 1));
  return rows;
}

double rank_flops(const StepMeasurements& found) {
  return found.rank_flops_per_step / Spread::of(found.seconds).median;
}

std::string rate_text(const StepMeasurements& found) {
  std::string text = fmt::format("{:.1f} GFLOP a step and rank (3 x forward, rows that ran), {:.1f} GFLOP/s",
                                 found.rank_flops_per_step / 1e9, rank_flops(found) / 1e9);
  if (found.peak.flops <= 0) return text + " (" + found.peak.origin + ")";
  return text + fmt::format(", {:.1f} % of {:.0f} GFLOP/s ({})", 100 * rank_flops(found) / found.peak.flops,
                            found.peak.flops / 1e9, found.peak.origin);
}

std::string heading(const BenchStepOptions& options, const StepMeasurements& found) {
  const config::StageConfig& stage = options.stage;
  const std::int64_t views = stage.cosub.enabled ? 2 : 1;
  const double effective =
      model::effective_drop_rate(stage.model.drop_rate, model::DepthMode::kFixed, stage.batch.micro);
  return fmt::format(
      "{} at {} px, {}: microbatches of {} images ({} rows), {} a rank and step, drop rate {:.4g} ({:.4g} "
      "effective)\n{} rank(s) on {}, {} thread(s), {}, {}{}; {} steps after {}\n",
      stage.model.name, stage.model.image_size, stage.cosub.enabled ? "cosub" : "baseline", stage.batch.micro,
      views * stage.batch.micro, options.accumulate, stage.model.drop_rate, effective, found.world_size,
      found.device, stage.threads, name_of(config::kPrecisionNames, stage.precision), stage.optimizer.name,
      stage.ema > 0 ? ", EMA" : "", options.steps, options.warm_up);
}

std::string exchange_text(const config::StageConfig& stage, const StepMeasurements& found) {
  if (found.world_size == 1) return "";
  if (!found.exchanges) return "no exchange: each rank trains for itself\n";
  const config::ExchangeConfig& exchange = stage.exchange;
  return fmt::format(
      "reduction {}, {} of gradients {} the backward pass in buckets of {:g} MiB{}{}{}\n",
      name_of(config::kReductionNames, stage.reduction),
      format_bytes(static_cast<double>(found.parameter_bytes)), found.overlaps ? "during" : "after",
      exchange.bucket_mib, exchange.compress == config::Compress::kBf16 ? ", as bf16" : "",
      exchange.error_feedback ? " with error feedback" : "",
      stage.sync_batchnorm > 1 ? fmt::format("; BatchNorm over {} ranks", stage.sync_batchnorm) : "");
}

}  // namespace

std::string in_turns_text(Turns turns, const std::vector<NamedMeasurements>& all) {
  const auto compare = [&](std::size_t a, std::size_t b, const auto& of_steps) {
    std::vector<double> values;
    for (std::size_t i = 0; i < all.at(a).found.seconds.size(); ++i)
      values.push_back(of_steps(all.at(a).found, all.at(b).found, i));
    return Spread::of(values);
  };
  if (turns == Turns::kOverlap) {
    const Spread saved =
        compare(0, 1, [](const StepMeasurements& with, const StepMeasurements& without, std::size_t i) {
          return without.seconds[i] - with.seconds[i];
        });
    return fmt::format("With overlap a step is {:.1f} ms shorter (median of the pairs; {:.1f} to {:.1f})\n",
                       1e3 * saved.median, 1e3 * saved.min, 1e3 * saved.max);
  }
  const auto speed = [](const StepMeasurements& found, std::size_t i) {
    return static_cast<double>(found.images_per_step) / found.seconds[i];
  };
  const auto ratio = [&](const StepMeasurements& a, const StepMeasurements& b, std::size_t i) {
    return speed(a, i) / speed(b, i);
  };
  const Spread together = compare(0, 1, ratio), alone = compare(2, 1, ratio), kept = compare(0, 2, ratio);
  const Rows rows = {{"images a second, turn by turn", "min", "median", "max"},
                     row(fmt::format("{} ranks / one", all[0].found.world_size), together, 1, 3),
                     row("without an exchange, each for itself / one", alone, 1, 3),
                     row("with / without the exchange", kept, 1, 3)};
  return table(rows);
}

std::string bench_step_text(const BenchStepOptions& options, const StepMeasurements& found) {
  const auto bytes = [](std::int64_t count) { return format_bytes(static_cast<double>(count)); };
  return heading(options, found) + exchange_text(options.stage, found) + "\n" + table(time_rows(found)) +
         (found.knows_phases() ? ""
                               : "phases and exchange: the host only queues them; --trace shows them\n") +
         fmt::format(
             "\nmodel   {}\nmemory  {} resident after the first step, {} after the last, {} at most; a step "
             "adds up to {} of tensors{}\n",
             rate_text(found), bytes(found.resident_after_first), bytes(found.resident_after_last),
             bytes(found.resident_peak), bytes(found.step_peak_bytes),
             found.device_peak > 0 ? ", " + bytes(found.device_peak) + " on the GPU at most" : "");
}

nlohmann::json bench_step_json(const BenchStepOptions& options, const StepMeasurements& found) {
  const config::StageConfig& stage = options.stage;
  const Spread seconds = Spread::of(found.seconds);
  nlohmann::json phases, exchange_seconds;  // null: not known
  for (std::size_t i = 0; found.knows_phases() && i < train::kPhaseNames.size(); ++i) {
    phases[std::string(train::kPhaseNames[i])] = Spread::of(of_phase(found, i)).json();
  }
  if (found.knows_phases()) exchange_seconds = Spread::of(found.exchange_seconds).json();
  const auto or_null = [](auto number) { return number > 0 ? nlohmann::json(number) : nlohmann::json(); };
  return {{"model", stage.model.name},
          {"image_size", stage.model.image_size},
          {"classes", stage.model.classes},
          {"images", stage.batch.micro},
          {"accumulate", options.accumulate},
          {"drop_rate", stage.model.drop_rate},
          {"cosub", stage.cosub.enabled},
          {"precision", name_of(config::kPrecisionNames, stage.precision)},
          {"optimizer", stage.optimizer.name},
          {"loss", name_of(config::kLossNames, stage.cosub.loss)},
          {"threads", stage.threads},
          {"ranks", found.world_size},
          {"device", found.device},
          {"parameter_bytes", found.parameter_bytes},
          {"exchange",
           !found.exchanges
               ? nlohmann::json()
               : nlohmann::json{{"reduction", name_of(config::kReductionNames, stage.reduction)},
                                {"overlap", found.overlaps},
                                {"bucket_mib", stage.exchange.bucket_mib},
                                {"compress", name_of(config::kCompressNames, stage.exchange.compress)},
                                {"error_feedback", stage.exchange.error_feedback}}},
          {"sync_batchnorm", stage.sync_batchnorm},
          {"images_per_second", seconds.per(static_cast<double>(found.images_per_step)).json()},
          {"step_seconds", seconds.json()},
          {"seconds", found.seconds},
          {"phase_seconds", std::move(phases)},
          {"exchange_seconds", std::move(exchange_seconds)},
          {"losses", found.losses},
          {"rank_flops_per_step", found.rank_flops_per_step},
          {"rank_flops", rank_flops(found)},
          {"peak_flops", or_null(found.peak.flops)},
          {"peak_origin", found.peak.origin},
          {"resident_bytes",
           {{"after_first_step", found.resident_after_first},
            {"after_last_step", found.resident_after_last},
            {"peak", found.resident_peak}}},
          {"device_peak_bytes", or_null(found.device_peak)},
          {"step_peak_bytes", found.step_peak_bytes}};
}

}  // namespace cosub::tools
