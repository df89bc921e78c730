#include "service/view.hpp"

namespace filo::service {

IndexedPlan::IndexedPlan(std::shared_ptr<const Plan> given) : shared(std::move(given)), plan(*shared) {
  position.reserve(plan.stages.size());
  for (std::uint32_t i = 0; i < plan.stages.size(); ++i) position.emplace(plan.stages[i].key, i);
  trials.reserve(plan.trials.size());
  for (const auto& trial : plan.trials) trials.push_back({position.at(trial.train), position.at(trial.evaluate)});
}

StageState trial_state(const ExperimentView& experiment, std::size_t trial) {
  const auto& statuses = *experiment.statuses;
  const auto& stages = experiment.plan->plan.stages;
  const auto [train, evaluate] = experiment.plan->trials[trial];
  StageState state = statuses[evaluate].state;
  const StageState training = statuses[train].state;
  if (state == StageState::blocked && is_settled(training) && training != StageState::done) return training;
  if (state != StageState::waiting) return state;
  const auto consider = [&](std::uint32_t position) {
    const StageState other = statuses[position].state;
    if (other == StageState::running)
      state = other;
    else if (other == StageState::queued && state == StageState::waiting)
      state = other;
  };
  consider(train);
  for (const std::uint32_t needing : {train, evaluate})
    for (const auto& input : stages[needing].inputs)
      if (const auto found = experiment.plan->position.find(input); found != experiment.plan->position.end())
        consider(found->second);
  return state;
}

std::vector<View::Found> View::find(std::string_view key) const {
  std::vector<Found> found;
  for (const auto& [name, experiment] : experiments)
    if (const auto at = experiment->plan->position.find(key); at != experiment->plan->position.end())
      found.push_back({experiment.get(), name, at->second});
  return found;
}

}  // namespace filo::service
