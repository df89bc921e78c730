// What people ask of stages and experiments: files that the next pass acts on (docs/decisions/012-wishes-are-files.md).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/plan/plan.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// Whether `name` is an experiment rather than (the first digits of) a stage's key. Throws UsageError with the nearest
// experiment when it can be neither.
bool names_experiment(const Workspace& workspace, const std::string& name);

// `filo cancel NAME`: nothing of it is started any more, and stages that no other active experiment needs are killed by
// the next pass. Done ones stay. Returns the keys of the stages that it asked for; nullopt: every stage is done, and
// nothing was changed. Throws as load_plan().
std::optional<std::vector<std::string>> cancel_experiment(const Workspace& workspace, const std::string& name,
                                                          const std::string& reason);
// One stage. False: it is done, there is nothing to cancel.
bool cancel_stage(const Workspace& workspace, const std::string& key, const std::string& reason);

// `filo retry`: failed, stopped and cancelled stages of the experiment are tried again, and what they block. Returns
// their keys.
std::vector<std::string> retry_experiment(const Workspace& workspace, const std::string& name);

// Every stage that is not done is tried again (Workspace::retry), but for what the plan's own search has stopped.
void retry_all(const Workspace& workspace, const Plan& plan);

}  // namespace filo
