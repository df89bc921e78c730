#include "scheduler/control/coordinator.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <unordered_set>

#include "base/error.hpp"
#include "base/files.hpp"
#include "scheduler/control/run_states.hpp"
#include "scheduler/plan/plan_file.hpp"
#include "settings/tracking.hpp"

namespace filo {
namespace {

std::string stamp_of(const std::filesystem::path& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return "";
  return std::to_string(status.st_ino) + " " + std::to_string(status.st_size) + " " +
         std::to_string(status.st_mtim.tv_sec) + "." + std::to_string(status.st_mtim.tv_nsec);
}

// Whether an attempt of it is queued at an executor or runs.
bool is_underway(const StageStatus& status) { return status.state == StageState::running || !status.where.empty(); }

// Whether a search of the plan decides by what trainings tell of single steps.
bool decides_by_steps(const Plan& plan) {
  return std::any_of(plan.searches.begin(), plan.searches.end(),
                     [](const auto& search) { return search.second.unit == "step"; });
}

bool is_tracked(const Plan& plan) { return planned_tracking(plan.experiment).any(); }

}  // namespace

Coordinator::Coordinator(const Workspace& workspace, ExecutorFactory factory, CoordinatorOptions options)
    : workspace_(workspace),
      factory_(std::move(factory)),
      options_(std::move(options)),
      index_(workspace_, index_file(workspace_)) {}

Coordinator::~Coordinator() = default;

void Coordinator::look_after(const Plan& plan, Executor& executor) {
  foreground_.push_back({.plan = &plan, .executor = &executor, .concurrency = {plan.max_concurrent()}});
  if (is_tracked(plan)) foreground_.back().tracked = std::make_shared<const Plan>(plan);
}

std::shared_ptr<const Plan> Coordinator::plan(const std::string& experiment) {
  const std::string stamp = stamp_of(workspace_.plan_file(experiment));
  Loaded& loaded = plans_[experiment];
  if (!loaded.plan || loaded.stamp != stamp || stamp.empty())
    loaded = {stamp, std::make_shared<const Plan>(load_plan(workspace_, experiment))};
  return loaded.plan;
}

Executor* Coordinator::executor_of(const ActiveExperiment& experiment) {
  const std::string file = std::filesystem::path(experiment.cluster).lexically_normal().string();
  const auto place = std::make_pair(experiment.executor, file);
  const auto known = executors_.find(place);
  if (known != executors_.end()) return known->second.get();
  std::shared_ptr<Executor> executor = factory_(experiment);
  for (const auto& [other, theirs] : executors_) {
    if (!executor || !theirs || theirs->name() != executor->name()) continue;
    if (read_file(other.second) != read_file(file))
      throw Error("scheduler: " + file, "found another file of the same cluster, \"" + theirs->name() +
                                            "\", with other content: " + other.second +
                                            "; expected one file for a cluster, or another name in it");
    executor = theirs;
    break;
  }
  return executors_.emplace(place, std::move(executor)).first->second.get();
}

std::vector<Executor*> Coordinator::all_executors() {
  std::vector<Executor*> all;
  for (const auto& one : foreground_) all.push_back(one.executor);
  for (const auto& [place, executor] : executors_)
    if (executor && std::find(all.begin(), all.end(), executor.get()) == all.end()) all.push_back(executor.get());
  return all;
}

Executor::Children Coordinator::children() {
  Executor::Children sum;
  for (Executor* executor : all_executors()) {
    const auto children = executor->children();
    sum.running += children.running;
    sum.ended += children.ended;
  }
  return sum;
}

void Coordinator::stop_children() {
  for (Executor* executor : all_executors()) executor->stop_children();
}

void Coordinator::end_children() {
  for (Executor* executor : all_executors()) executor->end_children();
}

std::vector<Coordinator::Watched> Coordinator::watched(CoordinatorPass& pass) {
  std::vector<Watched> all = foreground_;
  if (!factory_) return all;
  for (const auto& experiment : workspace_.active_experiments()) {
    try {
      const auto of = plan(experiment.name);
      all.push_back({.plan = of.get(),
                     .executor = executor_of(experiment),
                     .concurrency = {of->max_concurrent()},
                     .experiment = experiment,
                     .tracked = is_tracked(*of) ? of : nullptr});
      ++pass.experiments;
    } catch (const std::exception& error) {
      give_up_when_cancelled(experiment, pass);
      pass.troubles.push_back(experiment.name + ": " + error.what());
    }
  }
  return all;
}

// One that cannot be looked after (its plan or its cluster's file is gone or broken) stays as it is until that is
// mended or it is cancelled.
void Coordinator::give_up_when_cancelled(const ActiveExperiment& experiment, CoordinatorPass& pass) {
  if (!experiment.cancelled) return;
  workspace_.remove_active(experiment.name);
  pass.actions.push_back({"", "experiment " + experiment.name +
                                  " is no longer looked after; what of it a cluster still has in its queue is to be "
                                  "cancelled there"});
}

// Stages that others than `one` want to see the end of.
std::unordered_set<std::string_view> Coordinator::needed_elsewhere(const std::vector<Watched>& watched,
                                                                   const Watched& one) {
  std::unordered_set<std::string_view> needed;
  for (const auto& other : watched)
    if (other.plan != one.plan && !other.experiment.cancelled)
      for (const auto& stage : other.plan->stages) needed.insert(stage.key);
  return needed;
}

// What a search gives up is asked to stop, unless another experiment wants to see its end.
void Coordinator::apply_searches(const std::vector<Watched>& watched, CoordinatorPass& pass) {
  for (const auto& one : watched) {
    if (one.experiment.cancelled) continue;
    const auto stops = options_.search(workspace_, *one.plan);
    if (stops.empty()) continue;
    const auto elsewhere = needed_elsewhere(watched, one);
    for (const auto& [stage, reason] : stops) {
      if (elsewhere.contains(stage) || workspace_.request(stage)) continue;
      workspace_.write_request(stage, {"stop", reason});
      options_.at_point("request written");
      pass.actions.push_back({stage, "given up: " + reason});
    }
  }
}

std::vector<StageAssignment> Coordinator::assign(const std::vector<Watched>& watched,
                                                 std::vector<Executor*>& executors) {
  std::size_t most = 0;
  for (const auto& one : watched) most += one.plan->stages.size();
  std::vector<StageAssignment> assignments;
  assignments.reserve(most);
  std::unordered_map<std::uint64_t, std::size_t> place;
  place.reserve(most);
  for (const auto& one : watched) {
    if (one.executor != nullptr && std::find(executors.begin(), executors.end(), one.executor) == executors.end())
      executors.push_back(one.executor);
    Executor* starter = one.experiment.cancelled ? nullptr : one.executor;
    const bool by_steps = decides_by_steps(*one.plan);
    for (const auto& stage : one.plan->stages) {
      const ConcurrencyLimit* limit =
          stage.kind == StageKind::train && one.concurrency.limit > 0 && !one.experiment.cancelled ? &one.concurrency
                                                                                                   : nullptr;
      const auto [known, first] = place.emplace(key_number(stage.key), assignments.size());
      if (first) {
        assignments.push_back({&stage, starter, limit, by_steps, one.plan->name});
        continue;
      }
      StageAssignment& shared = assignments[known->second];
      shared.keeps_steps = shared.keeps_steps || by_steps;
      if (starter == nullptr) continue;
      if (shared.executor == nullptr)
        shared = {&stage, starter, limit, shared.keeps_steps, one.plan->name};
      else if (limit == nullptr)
        shared.concurrency = nullptr;
    }
  }
  return assignments;
}

// A pass that knew nothing of the cancellation yet may have started more of the experiment.
void Coordinator::apply_cancellations(const std::vector<Watched>& watched, CoordinatorPass& pass) {
  for (const auto& one : watched) {
    if (!one.experiment.cancelled) continue;
    const auto elsewhere = needed_elsewhere(watched, one);
    for (const auto& stage : one.plan->stages) {
      if (!is_underway(status_of(stage)) || elsewhere.contains(stage.key) || workspace_.request(stage.key)) continue;
      workspace_.write_request(stage.key, {"cancel", "experiment " + one.plan->name + " was cancelled"});
      options_.at_point("request written");
      pass.actions.push_back({stage.key, "to be cancelled, as its experiment is"});
    }
  }
}

// Hands over how trials stand: what is told, and to whom, is the other thread's.
void Coordinator::track(const std::vector<Watched>& watched) {
  for (const auto& one : watched) {
    if (!one.tracked) continue;
    if (!tracking_) tracking_ = std::make_unique<Tracking>(workspace_);
    const auto status = [&](const std::string& key) -> const StageStatus& {
      return latest_[position_.at(key_number(key))];
    };
    tracking_->update(one.tracked, run_states(*one.plan, status));
  }
}

void Coordinator::retire(const std::vector<Watched>& watched, CoordinatorPass& pass) {
  for (const auto& one : watched) {
    if (one.experiment.name.empty()) continue;
    bool done = true;
    bool underway = false;
    for (const auto& stage : one.plan->stages) {
      const StageStatus& status = status_of(stage);
      done = done && status.state == StageState::done;
      underway = underway || is_underway(status);
    }
    if (!done && !(one.experiment.cancelled && !underway)) continue;
    const auto now = workspace_.active(one.plan->name);
    const bool as_judged = now && now->since == one.experiment.since && now->cancelled == one.experiment.cancelled &&
                           plans_[one.plan->name].stamp == stamp_of(workspace_.plan_file(one.plan->name));
    if (!as_judged) continue;  // handed over again, or retried, meanwhile
    workspace_.remove_active(one.plan->name);
    pass.actions.push_back({"", "experiment " + one.plan->name + " is " + (done ? "done" : "cancelled")});
  }
}

CoordinatorPass Coordinator::pass(bool start_new) {
  CoordinatorPass pass;
  const auto all = watched(pass);
  apply_searches(all, pass);
  std::vector<Executor*> executors;
  const auto assignments = assign(all, executors);
  // One that a former pass used may have children left whose end is to be recorded.
  for (Executor* executor : all_executors()) {
    const auto [running, ended] = executor->children();
    if (running + ended > 0 && std::find(executors.begin(), executors.end(), executor) == executors.end())
      executors.push_back(executor);
  }
  const ReconcileOptions options{.start_new = start_new, .index = &index_, .at_point = options_.at_point};
  PassResult result = reconcile(workspace_, assignments, executors, options);
  index_.save();
  latest_ = std::move(result.statuses);
  position_.clear();
  position_.reserve(latest_.size());
  for (std::size_t i = 0; i < latest_.size(); ++i) {
    position_.emplace(key_number(latest_[i].key), i);
    ++pass.counts[latest_[i].state];
    pass.settled = pass.settled && is_settled(latest_[i].state);
  }
  pass.stages = latest_.size();
  std::move(result.actions.begin(), result.actions.end(), std::back_inserter(pass.actions));
  std::move(result.troubles.begin(), result.troubles.end(), std::back_inserter(pass.troubles));
  apply_cancellations(all, pass);
  track(all);
  retire(all, pass);
  return pass;
}

std::vector<StageStatus> Coordinator::statuses(const std::string& experiment) { return statuses(*plan(experiment)); }

std::vector<StageStatus> Coordinator::statuses(const Plan& of) {
  std::vector<StageStatus> statuses;
  statuses.reserve(of.stages.size());
  for (const auto& stage : of.stages) {
    const auto known = position_.find(key_number(stage.key));
    if (known == position_.end()) {
      statuses = observe(workspace_, of, &index_);
      index_.save();
      return statuses;
    }
    statuses.push_back(latest_[known->second]);
  }
  return statuses;
}

}  // namespace filo
