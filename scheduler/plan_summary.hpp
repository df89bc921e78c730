// What `filo plan` tells: trials, distinct stages, what is done, how long the rest may take.
#pragma once

#include <string>

#include "scheduler/plan.hpp"

namespace filo {

// {"experiment", "trials": [{fold, axis_values, train, evaluate}], "stages": [{key, kind, label, done, inputs}],
// "stages_done",
//  "estimate_s": seconds of the stages still to run one after another, by the mean of finished ones of the same kind in
//  this workspace; null when a kind has never run here}
Json plan_summary(const Workspace& workspace, const Plan& plan);
std::string plan_summary_text(const Json& summary);

}  // namespace filo
