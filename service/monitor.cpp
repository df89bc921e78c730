#include "service/monitor.hpp"

#include <algorithm>
#include <set>

#include "base/error.hpp"
#include "base/host.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "scheduler/plan/plan_file.hpp"
#include "scheduler/report/formats.hpp"

namespace filo::service {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t most_changes_told = 100;
constexpr auto between_tables = std::chrono::seconds(2);
constexpr std::size_t most_progress_told = 100;

bool same(const StageStatus& a, const StageStatus& b) {
  return a.state == b.state && a.attempt == b.attempt && a.counts.failures == b.counts.failures &&
         a.counts.requeues == b.counts.requeues && a.reason == b.reason && a.where == b.where;
}

// What tables and lists need of a result: the numbers of the whole, not of each class.
std::shared_ptr<const StageResult> trimmed(StageResult result) {
  result.metrics.erase("classes");
  if (result.metrics.contains("untrained") && result.metrics["untrained"].is_object())
    result.metrics["untrained"].erase("classes");
  result.artifacts = Json::object();
  return std::make_shared<const StageResult>(std::move(result));
}

std::shared_ptr<const Json> make_tables(const Plan& plan, const TrialMetrics& metrics) {
  std::vector<TrialResult> results;
  results.reserve(metrics.size());
  for (std::size_t i = 0; i < metrics.size(); ++i) {
    results.push_back({&plan.trials[i], std::nullopt});
    if (metrics[i]) results.back().evaluate = *metrics[i];
  }
  Json tables = Json::array();
  for (const auto& table : result_tables(plan, results)) tables.push_back(to_json(table));
  return std::make_shared<const Json>(std::move(tables));
}

Json told(const StageStatus& status) {
  return {{"stage", status.key},
          {"state", to_string(status.state)},
          {"attempt", status.attempt},
          {"reason", status.reason}};
}

}  // namespace

std::shared_ptr<const View> Monitor::view() const {
  const std::lock_guard lock(mutex_);
  return view_;
}

bool Monitor::publish(const Source& source, std::string problem) {
  const auto deadline = Clock::now() + std::chrono::seconds(1);
  bool complete = true;
  auto view = std::make_shared<View>();
  std::set<std::string> there;
  for (const auto& name : experiment_names(workspace_)) {
    if (!is_plain_name(name)) continue;
    Experiment& experiment = experiments_[name];
    there.insert(name);
    try {
      auto plan = source.plan(name);
      if (!experiment.plan || experiment.plan->shared != plan) {
        experiment = Experiment{};
        experiment.metrics = std::make_shared<TrialMetrics>(plan->trials.size());
        experiment.plan = std::make_shared<const IndexedPlan>(std::move(plan));
      }
      auto statuses = source.statuses(name);
      if (statuses && statuses->stages.size() == experiment.plan->plan.stages.size())
        complete = update(name, experiment, std::move(*statuses), deadline) && complete;
      experiment.problem.clear();
    } catch (const std::exception& error) {
      if (experiment.problem != error.what()) log_warning("serve: experiment " + name + ": " + error.what());
      experiment.problem = error.what();
      problem += (problem.empty() ? "" : "; ") + name + ": " + error.what();
    }
    if (experiment.view) view->experiments[name] = experiment.view;
  }
  std::erase_if(experiments_, [&](const auto& one) { return !there.contains(one.first); });

  view->revision = revision_;
  view->time = wall_time_s();
  view->problem = problem;
  {
    const std::lock_guard lock(mutex_);
    if (view_->problem != problem || view_->experiments.size() != view->experiments.size())
      view->revision = ++revision_;
    view_ = view;
  }
  hub_.keep_only([&](const std::string& stage) {
    for (const auto& found : view->find(stage))
      if ((*found.experiment->statuses)[found.position].state == StageState::running) return true;
    return false;
  });
  return complete;
}

bool Monitor::update(const std::string& name, Experiment& experiment, Statuses statuses, Clock::time_point deadline) {
  Json changes = Json::array();
  std::size_t changed = 0;
  for (std::size_t i = 0; i < statuses.stages.size(); ++i) {
    if (experiment.statuses && same(statuses.stages[i], (*experiment.statuses)[i])) continue;
    if (++changed <= most_changes_told && experiment.statuses) changes.push_back(told(statuses.stages[i]));
  }
  if (changed > 0 || !experiment.statuses) {
    experiment.statuses = std::make_shared<const std::vector<StageStatus>>(std::move(statuses.stages));
    experiment.metrics_complete = false;
  }
  const bool read = !experiment.metrics_complete && read_metrics(experiment, deadline);
  const bool new_tables =
      experiment.tables_stale && (!experiment.tables || Clock::now() - experiment.tables_made > between_tables);
  if (new_tables) {
    experiment.tables = make_tables(experiment.plan->plan, *experiment.metrics);
    experiment.tables_made = Clock::now();
    experiment.tables_stale = false;
  }
  if (changed == 0 && !read && !new_tables && experiment.view && experiment.view->active == statuses.active)
    return experiment.metrics_complete && !experiment.tables_stale;

  auto view = std::make_shared<ExperimentView>();
  view->plan = experiment.plan;
  view->statuses = experiment.statuses;
  view->metrics = experiment.metrics;
  view->tables = experiment.tables;
  view->active = statuses.active;
  view->revision = ++revision_;
  for (const auto& status : *experiment.statuses) ++view->stage_counts[to_string(status.state)];
  for (std::size_t trial = 0; trial < experiment.plan->trials.size(); ++trial)
    ++view->trial_counts[to_string(trial_state(*view, trial))];
  experiment.view = view;
  hub_.announce({{"event", "stages"},
                 {"experiment", name},
                 {"revision", view->revision},
                 {"stages", view->stage_counts},
                 {"trials", view->trial_counts},
                 {"tables", new_tables},
                 {"changed", std::move(changes)},
                 {"changes", changed}});
  return experiment.metrics_complete && !experiment.tables_stale;
}

// Whether any came.
bool Monitor::read_metrics(Experiment& experiment, Clock::time_point deadline) {
  const auto& plan = *experiment.plan;
  std::shared_ptr<TrialMetrics> updated;
  experiment.metrics_complete = true;
  for (std::size_t trial = 0; trial < plan.trials.size(); ++trial) {
    const StageStatus& status = (*experiment.statuses)[plan.trials[trial].evaluate];
    const bool done = status.state == StageState::done;
    const auto& known = (*experiment.metrics)[trial];
    if (done == (known != nullptr)) continue;
    if (Clock::now() > deadline) {
      experiment.metrics_complete = false;
      break;
    }
    if (!updated) updated = std::make_shared<TrialMetrics>(*experiment.metrics);
    auto result = done ? workspace_.result(status.key, StageKind::evaluate) : std::nullopt;
    (*updated)[trial] = result ? trimmed(std::move(*result)) : nullptr;
  }
  if (!updated) return false;
  experiment.metrics = std::move(updated);
  experiment.tables_stale = true;
  return true;
}

void EventTailer::look() {
  const auto view = monitor_.view();
  if (view->revision != revision_) {
    revision_ = view->revision;
    std::map<std::string, Tail> running;
    for (const auto& [name, experiment] : view->experiments)
      for (const auto& status : *experiment->statuses) {
        if (status.state != StageState::running || running.contains(status.key)) continue;
        const auto known = tails_.find(status.key);
        if (known != tails_.end() && known->second.attempt == status.attempt) {
          running.insert(tails_.extract(known));
          continue;
        }
        Tail tail{.file = EventReader(workspace_.events_file(status.key, status.attempt), status.attempt),
                  .attempt = status.attempt};
        tail.file.start_near_end(64 << 10);
        running.emplace(status.key, std::move(tail));
      }
    tails_ = std::move(running);
  }
  const auto now = Clock::now();
  for (auto& [stage, tail] : tails_) {
    if (now < tail.due) continue;
    const auto posted = hub_.last_post(stage);
    const bool posts = posted && now - *posted < std::chrono::seconds(10);
    auto lines = posts ? std::vector<EventLine>() : tail.file.read_lines();
    tail.interval =
        lines.empty() ? std::min(tail.interval * 2, std::chrono::milliseconds(4000)) : std::chrono::milliseconds(250);
    tail.due = now + tail.interval;
    hub_.accept(stage, std::move(lines), EventHub::Source::file);
  }
  if (now - told_ >= std::chrono::seconds(1)) {
    told_ = now;
    hub_.announce_progress(most_progress_told);
  }
}

}  // namespace filo::service
