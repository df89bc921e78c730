#include "scheduler/report/status.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <unordered_map>

#include "base/error.hpp"
#include "base/host.hpp"
#include "scheduler/executors/bad_nodes.hpp"
#include "scheduler/executors/slurm_executor.hpp"
#include "scheduler/plan/clip_activation.hpp"
#include "workspace/run_file.hpp"

namespace filo {
namespace {

constexpr int log_lines = 5;
constexpr auto between_questions = std::chrono::seconds(10);
constexpr double most_wait_s = 5;
// In the order in which they are told.
constexpr std::array<StageState, 8> states = {StageState::done,    StageState::running,  StageState::queued,
                                              StageState::waiting, StageState::failed,   StageState::blocked,
                                              StageState::stopped, StageState::cancelled};

using Counts = std::map<StageState, std::size_t>;

bool is_tried_again(const StageStatus& status) {
  return !is_settled(status.state) &&
         (status.counts.failures > 0 || status.counts.timeouts > 0 || status.counts.out_of_memory > 0);
}

Counts count(const std::vector<StageStatus>& statuses) {
  Counts counts;
  for (const auto& status : statuses) ++counts[status.state];
  return counts;
}

Counts count_trials(const Plan& plan, const std::vector<StageStatus>& statuses) {
  std::unordered_map<std::string_view, std::size_t> positions;
  positions.reserve(plan.stages.size());
  for (std::size_t i = 0; i < plan.stages.size(); ++i) positions.emplace(plan.stages[i].key, i);
  const auto status_of = [&](std::string_view key) {
    const auto found = positions.find(key);
    return found == positions.end() ? nullptr : &statuses[found->second];
  };
  Counts counts;
  for (const auto& trial : plan.trials)
    ++counts[trial_state(plan.stages[positions.at(trial.train)], plan.stages[positions.at(trial.evaluate)], status_of)];
  return counts;
}

Json counts_json(const Counts& counts) {
  Json json = Json::object();
  for (const auto& [state, number] : counts) json[to_string(state)] = number;
  return json;
}

std::string counts_text(const Counts& counts) {
  std::string text;
  for (const StageState state : states)
    if (const auto found = counts.find(state); found != counts.end())
      text += (text.empty() ? "" : ", ") + std::to_string(found->second) + " " + to_string(state);
  return text.empty() ? "none" : text;
}

std::string log_tail(const Workspace& workspace, const StageStatus& status) {
  if (status.attempt == 0 || (status.state != StageState::failed && !is_tried_again(status))) return "";
  const bool runs = status.state == StageState::running || !status.where.empty();
  const int ended = runs ? status.attempt - 1 : status.attempt;  // the latest that failed
  return ended < 1 ? "" : workspace.log_tail(status.key, ended, log_lines);
}

// What needs attention comes first.
int urgency(const StageStatus& status) {
  if (status.state == StageState::failed) return 0;
  if (is_tried_again(status)) return 1;
  switch (status.state) {
    case StageState::running:
      return 2;
    case StageState::cancelled:
      return 3;
    case StageState::stopped:
      return 4;
    case StageState::queued:
      return status.where.empty() ? 6 : 5;
    case StageState::blocked:
      return 7;
    case StageState::waiting:
      return 8;
    default:
      return 9;
  }
}

std::string date_and_time(double seconds) { return local_time(seconds, "%Y-%m-%d %H:%M:%S"); }

// Who looks after it.
std::string active_text(const Workspace& workspace, const std::string& name) {
  std::string text;
  for (const auto& run : living_runs(workspace, name))
    text += "  run by filo run, process " + std::to_string(run.pid) + " on " + run.host + ", since " +
            date_and_time(run.since) + "\n";
  const auto active = workspace.active(name);
  if (!active) return text;
  text += "  on " + (active->cluster.empty() ? active->executor : active->executor + ", " + active->cluster) +
          " since " + date_and_time(active->since);
  if (active->cancelled) text += ", being cancelled";
  return text + "\n";
}

// Nodes that the experiment's stages keep away from.
std::vector<std::string> avoided_nodes(const Workspace& workspace, const Plan& plan,
                                       const std::vector<StageStatus>& statuses) {
  const auto active = workspace.active(plan.name);
  if (!active || active->executor != "slurm" || is_settled(statuses)) return {};
  try {
    const ClusterSettings settings = load_cluster_settings(active->cluster);
    auto bad = bad_nodes(workspace, settings);
    std::erase_if(bad, [&](const BadNode& known) {
      return !known.stage.empty() && std::none_of(statuses.begin(), statuses.end(), [&](const StageStatus& status) {
        return status.key == known.stage && !is_settled(status.state);
      });
    });
    return describe(bad, settings.bad_nodes);
  } catch (const Error&) {  // a cluster file that is gone: the passes say so
    return {};
  }
}

std::string stage_text(const Workspace& workspace, const PlannedStage& stage, const StageStatus& status) {
  std::string text = "  " + status.key + "  " + to_string(status.state) + "  " + stage.label;
  if (status.attempt > 0) text += "  attempt " + std::to_string(status.attempt);
  if (!status.where.empty()) text += "  " + status.where;
  if (const std::string used = limits_used(status.counts, stage.resources.attempts);
      !used.empty() && status.state != StageState::done)
    text += "  (" + used + ")";
  if (!status.reason.empty()) text += "  " + status.reason;
  text += "\n";
  const std::string tail = log_tail(workspace, status);
  for (std::size_t start = 0; start < tail.size();) {
    const std::size_t end = std::min(tail.find('\n', start), tail.size());
    text += "      " + tail.substr(start, end - start) + "\n";
    start = end + 1;
  }
  return text;
}

}  // namespace

const QueueView::Answer& QueueView::ask(const Workspace& workspace, const std::string& cluster_file) {
  const auto now = std::chrono::steady_clock::now();
  const auto known = answers_.find(cluster_file);
  if (known != answers_.end() && now - known->second.time < between_questions) return known->second;
  Answer answer{.time = now, .jobs = {}, .problem = {}};
  try {
    ClusterSettings settings = load_cluster_settings(cluster_file);
    settings.command_timeout_s = std::min(settings.command_timeout_s, most_wait_s);
    answer.jobs = slurm_jobs(workspace, settings);
  } catch (const Error& error) {
    answer.problem = error.what();
  }
  return answers_[cluster_file] = std::move(answer);
}

std::string QueueView::update(const Workspace& workspace, const Plan& plan, std::vector<StageStatus>& statuses) {
  const auto active = workspace.active(plan.name);
  if (!active || active->executor != "slurm") return "";
  const Answer& answer = ask(workspace, active->cluster);
  std::unordered_map<std::string_view, StageStatus*> unsettled;
  for (auto& status : statuses)
    if (!is_settled(status.state)) unsettled.emplace(status.key, &status);
  for (const auto& job : answer.jobs) {
    const auto found = unsettled.find(job.stage);
    if (found == unsettled.end() || found->second->attempt != job.attempt) continue;
    StageStatus& status = *found->second;
    status.where = job.where;
    if (job.state == JobState::ended)
      status.reason = "has ended; the next pass says how";
    else
      status.state = job.state == JobState::running ? StageState::running : StageState::queued;
  }
  return answer.problem;
}

StageState trial_state(const PlannedStage& train, const PlannedStage& evaluate, const StatusOf& status_of) {
  const StageState trained = status_of(train.key)->state;
  const StageState evaluated = status_of(evaluate.key)->state;
  if (evaluated == StageState::blocked && is_settled(trained) && trained != StageState::done) return trained;
  if (evaluated != StageState::waiting) return evaluated;
  StageState state = is_settled(trained) ? evaluated : trained;
  for (const PlannedStage* stage : {&train, &evaluate})
    for (const auto& input : stage->inputs) {
      const StageStatus* needed = status_of(input);
      if (needed == nullptr) continue;
      if (needed->state == StageState::running || (needed->state == StageState::queued && state == StageState::waiting))
        state = needed->state;
    }
  return state;
}

Json status_json(const Workspace& workspace, const Plan& plan, const std::vector<StageStatus>& statuses) {
  Json json = {{"experiment", plan.name},
               {"active", Json()},
               {"settled", is_settled(statuses)},
               {"counts", counts_json(count(statuses))},
               {"trials", counts_json(count_trials(plan, statuses))},
               {"notice", results_of_other_activation(plan)},
               {"avoided_nodes", avoided_nodes(workspace, plan, statuses)},
               {"stages", Json::array()}};
  if (const auto active = workspace.active(plan.name))
    json["active"] = {{"executor", active->executor},
                      {"cluster", active->cluster.empty() ? Json() : Json(active->cluster)},
                      {"since", active->since},
                      {"cancelled", active->cancelled}};
  json["runs"] = Json::array();
  for (const auto& run : living_runs(workspace, plan.name))
    json["runs"].push_back({{"host", run.host}, {"pid", run.pid}, {"since", run.since}});
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    const StageStatus& status = statuses[i];
    json["stages"].push_back({{"key", status.key},
                              {"kind", to_string(plan.stages[i].kind)},
                              {"label", plan.stages[i].label},
                              {"state", to_string(status.state)},
                              {"attempt", status.attempt},
                              {"reason", status.reason},
                              {"where", status.where},
                              {"limits", limits_used(status.counts, plan.stages[i].resources.attempts)},
                              {"log_tail", log_tail(workspace, status)}});
  }
  return json;
}

std::string status_text(const Workspace& workspace, const Plan& plan, const std::vector<StageStatus>& statuses,
                        std::size_t most) {
  const Counts counts = count(statuses);
  std::string text = plan.name + ": " + std::to_string(plan.trials.size()) +
                     " trials: " + counts_text(count_trials(plan, statuses)) + "\n  " +
                     std::to_string(statuses.size()) + " stages: " + counts_text(counts) + "\n" +
                     active_text(workspace, plan.name);
  if (const std::string notice = results_of_other_activation(plan); !notice.empty()) text += "  " + notice + "\n";
  for (const auto& line : avoided_nodes(workspace, plan, statuses)) text += "  " + line + "\n";
  std::vector<std::size_t> told(statuses.size());
  for (std::size_t i = 0; i < told.size(); ++i) told[i] = i;
  const std::size_t shown = most == 0 ? told.size() : std::min(most, told.size());
  if (shown < told.size()) {
    std::vector<int> urgencies;
    urgencies.reserve(statuses.size());
    for (const auto& status : statuses) urgencies.push_back(urgency(status));
    std::partial_sort(told.begin(), told.begin() + static_cast<std::ptrdiff_t>(shown), told.end(),
                      [&](std::size_t a, std::size_t b) {
                        return std::make_pair(urgencies[a], a) < std::make_pair(urgencies[b], b);
                      });
  }
  for (std::size_t i = 0; i < shown; ++i) text += stage_text(workspace, plan.stages[told[i]], statuses[told[i]]);
  if (shown < told.size()) text += "  and " + std::to_string(told.size() - shown) + " more (--all shows them)\n";
  return text;
}

}  // namespace filo
