#include "scheduler/control/run_states.hpp"

#include <unordered_map>

namespace filo {
namespace {

bool was_ended(StageState state) { return state == StageState::stopped || state == StageState::cancelled; }

RunStatus status_of_trial(StageState train, StageState evaluate) {
  if (evaluate == StageState::done) return RunStatus::finished;
  if (was_ended(train) || was_ended(evaluate)) return RunStatus::killed;
  return is_settled(evaluate) || train == StageState::failed ? RunStatus::failed : RunStatus::running;
}

}  // namespace

std::vector<RunState> run_states(const Plan& plan,
                                 const std::function<const StageStatus&(const std::string& key)>& status_of) {
  std::vector<RunState> states;
  states.reserve(plan.trials.size());
  for (const auto& trial : plan.trials) {
    const StageStatus& train = status_of(trial.train);
    states.push_back({.attempt = train.attempt,
                      .training = train.state == StageState::running,
                      .status = status_of_trial(train.state, status_of(trial.evaluate).state)});
  }
  return states;
}

std::vector<RunState> run_states(const Plan& plan, const std::vector<StageStatus>& statuses) {
  std::unordered_map<std::string_view, const StageStatus*> by_key;
  for (const auto& status : statuses) by_key.emplace(status.key, &status);
  return run_states(plan, [&](const std::string& key) -> const StageStatus& { return *by_key.at(key); });
}

}  // namespace filo
