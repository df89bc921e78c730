// What `filo plan` tells: trials, distinct stages, what is done, what the rest may cost.
#pragma once

#include <string>

#include "scheduler/plan/plan.hpp"

namespace filo {

// {"experiment", "trials": [{experiment, fold, axis_values, train, evaluate}],
//  "stages": [{key, kind, label, done, inputs}], "stages_done",
//  "kinds": [{kind, stages, done, seconds, gpu_hours, bytes, basis}]: of what is still to run, one stage after another
//    on the resources that they ask for. basis: "experience" (the arithmetic's work, at the rate of finished stages of
//    the kind in this workspace) or "arithmetic" (at an assumed rate),
//  "estimate_s", "estimate_gpu_hours", "estimate_bytes": their sums}
Json plan_summary(const Workspace& workspace, const Plan& plan);
std::string plan_summary_text(const Json& summary);

}  // namespace filo
