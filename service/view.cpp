#include "service/view.hpp"

#include "scheduler/report/status.hpp"

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
  return filo::trial_state(stages[train], stages[evaluate], [&](std::string_view key) {
    const auto found = experiment.plan->position.find(key);
    return found == experiment.plan->position.end() ? nullptr : &statuses[found->second];
  });
}

std::vector<View::Found> View::find(std::string_view key) const {
  std::vector<Found> found;
  for (const auto& [name, experiment] : experiments)
    if (const auto at = experiment->plan->position.find(key); at != experiment->plan->position.end())
      found.push_back({experiment.get(), name, at->second});
  return found;
}

}  // namespace filo::service
