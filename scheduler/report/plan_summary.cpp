#include "scheduler/report/plan_summary.hpp"

#include <algorithm>
#include <sstream>

#include "base/error.hpp"
#include "base/text.hpp"
#include "scheduler/plan/axis_values.hpp"
#include "scheduler/plan/digests.hpp"
#include "scheduler/report/estimate.hpp"
#include "scheduler/report/formats.hpp"
#include "workspace/spec.hpp"

namespace filo {
namespace {

constexpr std::size_t most_lines = 40;
constexpr std::size_t most_experience = 200;  // finished stages that are looked at
const std::vector<StageKind> kinds = {StageKind::features, StageKind::boxes, StageKind::train, StageKind::evaluate,
                                      StageKind::exported};

// FLOP/s of one thread, or of one GPU, by kind of stage.
struct Rate {
  double flop = 0;
  double seconds = 0;  // times threads or GPUs
};

std::map<std::pair<StageKind, bool>, Rate> rates_of(const Workspace& workspace, StageCosts& costs) {
  std::map<std::pair<StageKind, bool>, Rate> rates;
  std::size_t seen = 0;
  for (const auto& key : workspace.stage_keys()) {
    std::error_code error;
    if (!std::filesystem::exists(workspace.result_file(key), error)) continue;
    if (++seen > most_experience) break;
    try {
      const auto result = stage_result_from_json(read_json(workspace.result_file(key)));
      if (!result || result->seconds <= 0) continue;
      const bool gpu = result->device != "cpu";
      Rate& rate = rates[{result->kind, gpu}];
      rate.flop += costs.of(result->kind, read_json(workspace.spec_file(key))).flop;
      rate.seconds += result->seconds * result->world_size * (gpu ? 1 : result->threads);
    } catch (const std::exception&) {  // a stage of another version, or of a data set that is gone, is no experience
    }
  }
  return rates;
}

struct KindTotal {
  int stages = 0, done = 0;
  double seconds = 0, gpu_hours = 0, bytes = 0;
  bool experience = true;
};

std::string duration(double seconds) {
  if (seconds < 120) return formatted(seconds, "%.0f s");
  if (seconds < 7200) return formatted(seconds / 60, "%.0f min");
  return formatted(seconds / 3600, "%.1f h");
}

std::string size_text(double bytes) {
  const char* units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  std::size_t unit = 0;
  for (; bytes >= 1000 && unit < 5; bytes /= 1000) ++unit;
  return formatted(bytes, unit == 0 ? "%.0f " : "%.1f ") + units[unit];
}

std::string hours_text(double hours) { return hours == 0 ? "-" : formatted(hours, hours < 10 ? "%.2g" : "%.0f"); }

}  // namespace

Json plan_summary(const Workspace& workspace, const Plan& plan) {
  StageCosts costs(workspace);
  const auto rates = rates_of(workspace, costs);
  Json summary = {{"experiment", plan.name}, {"trials", Json::array()}, {"stages", Json::array()}};
  for (const auto& trial : plan.trials)
    summary["trials"].push_back({{"experiment", trial.experiment},
                                 {"fold", trial.fold},
                                 {"axis_values", trial.axis_values},
                                 {"train", trial.train},
                                 {"evaluate", trial.evaluate}});
  std::map<StageKind, KindTotal> totals;
  int done = 0;
  for (const auto& stage : plan.stages) {
    const bool is_done = workspace.result(stage.key, stage.kind).has_value();
    summary["stages"].push_back({{"key", stage.key},
                                 {"kind", to_string(stage.kind)},
                                 {"label", stage.label},
                                 {"inputs", stage.inputs},
                                 {"done", is_done}});
    KindTotal& total = totals[stage.kind];
    ++total.stages;
    total.done += is_done ? 1 : 0;
    done += is_done ? 1 : 0;
    if (is_done) continue;
    const StageCost cost = costs.of(stage.kind, stage.spec.json());
    const bool gpu = stage.resources.gpus > 0;
    const double workers = stage.resources.ranks * (gpu ? 1.0 : stage.resources.threads);
    const auto past = rates.find({stage.kind, gpu});
    const bool known = past != rates.end() && past->second.flop > 0 && past->second.seconds > 0;
    const double rate =
        known ? past->second.flop / past->second.seconds : (gpu ? assumed_flop_per_gpu : assumed_flop_per_thread);
    const double seconds = cost.flop / (rate * workers);
    total.seconds += seconds;
    total.gpu_hours += gpu ? seconds * workers / 3600 : 0;
    total.bytes += cost.bytes;
    total.experience = total.experience && known;
  }
  summary["stages_done"] = done;
  double seconds = 0, gpu_hours = 0, bytes = 0;
  summary["kinds"] = Json::array();
  for (const StageKind kind : kinds) {
    const auto total = totals.find(kind);
    if (total == totals.end()) continue;
    summary["kinds"].push_back({{"kind", to_string(kind)},
                                {"stages", total->second.stages},
                                {"done", total->second.done},
                                {"seconds", total->second.seconds},
                                {"gpu_hours", total->second.gpu_hours},
                                {"bytes", total->second.bytes},
                                {"basis", total->second.experience ? "experience" : "arithmetic"}});
    seconds += total->second.seconds;
    gpu_hours += total->second.gpu_hours;
    bytes += total->second.bytes;
  }
  summary["estimate_s"] = seconds;
  summary["estimate_gpu_hours"] = gpu_hours;
  summary["estimate_bytes"] = bytes;
  return summary;
}

std::string plan_summary_text(const Json& summary) {
  const Json& trials = summary.at("trials");
  const Json& stages = summary.at("stages");
  std::ostringstream out;
  out << summary.at("experiment").get<std::string>() << ": " << trials.size() << " trials, " << stages.size()
      << " distinct stages, " << summary.at("stages_done") << " of them done\n\n";
  TextTable list{.title = "trials", .columns = {"experiment", "fold", "settings", "train", "evaluate"}, .rows = {}};
  for (std::size_t i = 0; i < trials.size() && i < most_lines; ++i)
    list.rows.push_back({trials[i].at("experiment"), trials[i].at("fold"),
                         describe_axis_values(trials[i].at("axis_values").get<std::map<std::string, Json>>()),
                         trials[i].at("train"), trials[i].at("evaluate")});
  out << to_terminal(list);
  if (trials.size() > most_lines) out << "... and " << trials.size() - most_lines << " more (--json has all)\n";
  TextTable costs{.title = "stages, and an estimate of what is still to run",
                  .columns = {"kind", "stages", "done", "time", "GPU hours", "bytes", "estimated by"},
                  .rows = {}};
  for (const auto& kind : summary.at("kinds")) {
    const bool left = kind.at("stages") != kind.at("done");
    costs.rows.push_back({kind.at("kind"), kind.at("stages").dump(), kind.at("done").dump(),
                          left ? duration(kind.at("seconds")) : "-", left ? hours_text(kind.at("gpu_hours")) : "-",
                          left ? size_text(kind.at("bytes")) : "-",
                          !left                              ? "-"
                          : kind.at("basis") == "experience" ? "stages that ran in this workspace"
                                                             : "arithmetic alone"});
  }
  out << "\n" << to_terminal(costs);
  if (summary.at("stages_done") != stages.size())
    out << "\nestimate: " << duration(summary.at("estimate_s")) << " one stage after another, "
        << size_text(summary.at("estimate_bytes")) << " on disk\n";
  return out.str();
}

}  // namespace filo
