#include "scheduler/tracking/runs.hpp"

#include <map>
#include <string_view>
#include <unordered_set>

#include "scheduler/plan/axis_values.hpp"

namespace filo {
namespace {

using Params = std::map<std::string, std::string>;

std::string name_of(const PlannedTrial& trial, bool several) {
  const std::string values = describe_axis_values(trial.axis_values);
  return (several ? trial.experiment + ": " : "") + trial.fold + (values.empty() ? "" : " (" + values + ")");
}

void flatten(const Json& value, const std::string& key, Params& params) {
  if (value.is_object()) {
    for (const auto& [name, member] : value.items()) flatten(member, key + "." + name, params);
  } else if (!value.is_null() && value != "") {
    params[key] = plain_text(value);
  }
}

// The resolved file that the trial comes from: the plan's own, or one that it includes.
const Json& experiment_of(const Plan& plan, const std::string& name) {
  if (plan.experiment.contains("included"))
    for (const auto& included : plan.experiment.at("included"))
      if (included.at("name") == name) return included;
  return plan.experiment;
}

}  // namespace

std::vector<TrackedRun> tracked_runs(const Plan& plan) {
  std::unordered_set<std::string_view> experiments;
  for (const auto& trial : plan.trials) experiments.insert(trial.experiment);
  std::vector<TrackedRun> runs;
  std::unordered_set<std::string_view> keys;
  std::unordered_set<std::string> names;
  for (std::size_t i = 0; i < plan.trials.size(); ++i) {
    const PlannedTrial& trial = plan.trials[i];
    if (!keys.insert(trial.evaluate).second) continue;
    std::string name = name_of(trial, experiments.size() > 1);
    if (!names.insert(name).second) name += " " + trial.evaluate.substr(0, 8);
    runs.push_back({.key = trial.evaluate, .train = trial.train, .name = std::move(name), .trial = i});
  }
  return runs;
}

std::vector<std::pair<std::string, std::string>> run_params(const Plan& plan, const TrackedRun& run) {
  const PlannedTrial& trial = plan.trials.at(run.trial);
  const Json& experiment = experiment_of(plan, trial.experiment);
  Params params;
  for (const char* section : {"model", "train", "evaluate"})
    if (experiment.contains(section)) flatten(experiment.at(section), section, params);
  for (const auto& [key, value] : trial.axis_values) flatten(value, key, params);
  params["fold"] = trial.fold;
  return {params.begin(), params.end()};
}

std::string to_string(RunStatus status) {
  switch (status) {
    case RunStatus::running:
      return "running";
    case RunStatus::finished:
      return "finished";
    case RunStatus::failed:
      return "failed";
    case RunStatus::killed:
      return "killed";
  }
  return "";
}

}  // namespace filo
