// What `filo status` tells of an experiment.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/reconcile.hpp"

namespace filo {

// The state of a trial: its evaluation's, or, while that waits, how far its training has come.
StageState trial_state(const StageStatus& train, const StageStatus& evaluate);

// {"experiment", "active": null or {"executor", "cluster", "since", "cancelled"}, "counts": {state: stages},
//  "trials": {state: trials}, "stages": [{key, kind, label, state, attempt, reason, where, limits, log_tail}]}.
// `limits`: what of the limits is used up ("failed 2 of 3 times"); `log_tail`: last lines, of failed stages and of
// those that will be tried again.
Json status_json(const Workspace& workspace, const Plan& plan, const std::vector<StageStatus>& statuses,
                 const AttemptLimits& limits);

// For people. At most `most` stages, those that need attention first (all with 0): failed, running, tried again, ...
std::string status_text(const Workspace& workspace, const Plan& plan, const std::vector<StageStatus>& statuses,
                        const AttemptLimits& limits, std::size_t most);

}  // namespace filo
