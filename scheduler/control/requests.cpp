#include "scheduler/control/requests.hpp"

#include <algorithm>
#include <unordered_set>

#include "base/error.hpp"
#include "base/failpoints.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/text.hpp"
#include "scheduler/control/stage_state.hpp"
#include "scheduler/plan/plan_file.hpp"

namespace filo {
namespace {

// Stages that active experiments other than `name` need.
std::unordered_set<std::string> needed_by_others(const Workspace& workspace, const std::string& name) {
  std::unordered_set<std::string> needed;
  for (const auto& other : workspace.active_experiments()) {
    if (other.name == name || other.cancelled) continue;
    try {
      for (const auto& stage : load_plan(workspace, other.name).stages) needed.insert(stage.key);
    } catch (const Error& error) {  // its file says nothing about what others may cancel
      log_warning(error.what());
    }
  }
  return needed;
}

}  // namespace

bool names_experiment(const Workspace& workspace, const std::string& name) {
  const auto names = experiment_names(workspace);
  if (std::find(names.begin(), names.end(), name) != names.end()) return true;
  if (!name.empty() && name.size() <= 16 && name.find_first_not_of("0123456789abcdef") == std::string::npos)
    return false;
  throw UsageError("scheduler: " + name,
                   "found neither an experiment nor a stage of this name in " + workspace.root().string() +
                       ", expected a name or the digits of a key that filo status shows" + did_you_mean(name, names));
}

std::optional<std::vector<std::string>> cancel_experiment(const Workspace& workspace, const std::string& name,
                                                          const std::string& reason) {
  auto active = workspace.active(name);
  const auto mark = [&] {
    if (!active) return;
    active->cancelled = true;
    workspace.write_active(*active);
  };
  Plan plan;
  try {
    plan = load_plan(workspace, name);
  } catch (const Error&) {
    mark();  // so that nobody looks after it any more
    throw;
  }
  const auto statuses = observe(workspace, plan);
  if (all_done(statuses)) return std::nullopt;
  mark();
  const auto needed = needed_by_others(workspace, name);
  std::vector<std::string> cancelled;
  for (const auto& status : statuses) {
    if (is_settled(status.state) || status.state == StageState::waiting || needed.contains(status.key)) continue;
    workspace.write_request(status.key, {"cancel", reason});
    pass_failpoint("request written");
    cancelled.push_back(status.key);
  }
  return cancelled;
}

bool cancel_stage(const Workspace& workspace, const std::string& key, const std::string& reason) {
  if (workspace.result(key, workspace.kind(key))) return false;
  workspace.write_request(key, {"cancel", reason});
  pass_failpoint("request written");
  return true;
}

std::vector<std::string> retry_experiment(const Workspace& workspace, const std::string& name) {
  const Plan plan = load_plan(workspace, name);
  if (auto active = workspace.active(name); active && active->cancelled) {
    active->cancelled = false;
    workspace.write_active(*active);
  }
  std::vector<std::string> retried;
  for (const auto& status : observe(workspace, plan)) {
    if (status.state != StageState::failed && status.state != StageState::stopped &&
        status.state != StageState::cancelled)
      continue;
    workspace.retry(status.key);
    retried.push_back(status.key);
  }
  return retried;
}

void retry_all(const Workspace& workspace, const Plan& plan) {
  const bool searches = !plan.searches.empty();
  Progress progress("looking for what is to be tried again", plan.stages.size());
  for (std::size_t i = 0; i < plan.stages.size(); ++i) {
    const PlannedStage& stage = plan.stages[i];
    progress.at(i);
    if (workspace.result(stage.key, stage.kind)) continue;
    const auto request = workspace.request(stage.key);
    if (!searches || !request || request->action != "stop") workspace.retry(stage.key);
  }
}

}  // namespace filo
