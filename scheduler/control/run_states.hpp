// How far trials have come, for those that are told of them (scheduler/tracking).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "scheduler/control/stage_state.hpp"
#include "scheduler/tracking/runs.hpp"

namespace filo {

// One for each of the plan's trials. `status_of` gives the status of a stage by its key.
std::vector<RunState> run_states(const Plan& plan,
                                 const std::function<const StageStatus&(const std::string& key)>& status_of);
std::vector<RunState> run_states(const Plan& plan, const std::vector<StageStatus>& statuses);  // in the plan's order

}  // namespace filo
