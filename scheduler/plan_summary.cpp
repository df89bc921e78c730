#include "scheduler/plan_summary.hpp"

#include <algorithm>
#include <sstream>

#include "scheduler/table.hpp"

namespace filo {
namespace {

constexpr std::size_t most_lines = 40;

struct Experience {
  double seconds = 0;
  int stages = 0;
};

// How long the finished stages of this workspace took, by kind.
std::map<StageKind, Experience> experience_of(const Workspace& workspace) {
  std::map<StageKind, Experience> experience;
  for (const auto& key : workspace.stage_keys())
    for (const StageKind kind : {StageKind::features, StageKind::train, StageKind::evaluate})
      if (const auto result = workspace.result(key, kind)) {
        experience[kind].seconds += result->seconds;
        ++experience[kind].stages;
        break;
      }
  return experience;
}

std::string duration(double seconds) {
  const auto whole = static_cast<long>(seconds + 0.5);
  if (whole < 120) return std::to_string(whole) + " s";
  if (whole < 7200) return std::to_string((whole + 30) / 60) + " min";
  return std::to_string((whole + 1800) / 3600) + " h";
}

}  // namespace

Json plan_summary(const Workspace& workspace, const Plan& plan) {
  const auto experience = experience_of(workspace);
  Json summary = {{"experiment", plan.name}, {"trials", Json::array()}, {"stages", Json::array()}};
  for (const auto& trial : plan.trials)
    summary["trials"].push_back({{"fold", trial.fold},
                                 {"axis_values", trial.axis_values},
                                 {"train", trial.train},
                                 {"evaluate", trial.evaluate}});
  double estimate = 0;
  bool known = true;
  int done = 0;
  for (const auto& stage : plan.stages) {
    const bool is_done = workspace.result(stage.key, stage.kind).has_value();
    summary["stages"].push_back({{"key", stage.key},
                                 {"kind", to_string(stage.kind)},
                                 {"label", stage.label},
                                 {"inputs", stage.inputs},
                                 {"done", is_done}});
    done += is_done ? 1 : 0;
    if (is_done) continue;
    const auto past = experience.find(stage.kind);
    known = known && past != experience.end();
    if (known) estimate += past->second.seconds / past->second.stages;
  }
  summary["stages_done"] = done;
  summary["estimate_s"] = known ? Json(estimate) : Json();
  return summary;
}

std::string plan_summary_text(const Json& summary) {
  const Json& trials = summary.at("trials");
  const Json& stages = summary.at("stages");
  std::ostringstream out;
  out << summary.at("experiment").get<std::string>() << ": " << trials.size() << " trials, " << stages.size()
      << " distinct stages, " << summary.at("stages_done") << " of them done\n\ntrials\n";
  for (std::size_t i = 0; i < trials.size() && i < most_lines; ++i) {
    const std::string values = describe_axis_values(trials[i].at("axis_values").get<std::map<std::string, Json>>());
    out << "  " << trials[i].at("fold").get<std::string>() << (values.empty() ? "" : "  " + values) << "  train "
        << trials[i].at("train").get<std::string>() << "  evaluate " << trials[i].at("evaluate").get<std::string>()
        << "\n";
  }
  if (trials.size() > most_lines) out << "  ... and " << trials.size() - most_lines << " more (--json has all)\n";
  out << "\nstages\n";
  for (std::size_t i = 0; i < stages.size() && i < most_lines; ++i)
    out << "  " << stages[i].at("key").get<std::string>() << "  "
        << (stages[i].at("done").get<bool>() ? "done   " : "to run ") << " " << stages[i].at("label").get<std::string>()
        << "\n";
  if (stages.size() > most_lines) out << "  ... and " << stages.size() - most_lines << " more (--json has all)\n";
  if (summary.at("stages_done") != stages.size()) {
    out << "\n";
    if (summary.at("estimate_s").is_null())
      out << "no estimate of time: not every kind of stage has run in this workspace yet\n";
    else
      out << "about " << duration(summary.at("estimate_s").get<double>())
          << " one after another, going by the stages that ran in this workspace\n";
  }
  return out.str();
}

}  // namespace filo
