// experiments/NAME/plan.json: plans on disk, written by `filo run` and `filo submit`, read by everything after them.
#pragma once

#include <string>
#include <vector>

#include "scheduler/plan/plan.hpp"

namespace filo {

// experiments/NAME/plan.json and stages/KEY/spec.json of each stage.
void save_plan(const Plan& plan, const Workspace& workspace);
// Throws UsageError when the experiment was never run here. The stages' specs are read from their folders when asked
// for, not here.
Plan load_plan(const Workspace& workspace, const std::string& name);
std::vector<std::string> experiment_names(const Workspace& workspace);

}  // namespace filo
