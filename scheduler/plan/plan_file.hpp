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

// The experiments whose plans name the data set under `data`, their own or an included one's. Throws Error where a plan
// cannot be read: it may name it.
std::vector<std::string> experiments_with_dataset(const Workspace& workspace, const std::string& dataset);

}  // namespace filo
