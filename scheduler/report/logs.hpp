// Reading the logs of stages: `filo logs`.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>

#include "workspace/workspace.hpp"

namespace filo {

// The stage whose key begins with `digits`. Throws UsageError when there is none, or more than one.
std::string find_stage(const Workspace& workspace, const std::string& digits);

// Writes attempt `attempt` (0: the newest) of the stage's log to `out`. With `follow` goes on until the attempt has
// ended or `stop()`; with attempt 0 also over the attempts that follow it (a line between them), until the stage is
// done or given up, or none followed within `patience_s`. Throws UsageError when there is no such attempt.
void print_log(const Workspace& workspace, const std::string& key, int attempt, bool follow, std::ostream& out,
               const std::function<bool()>& stop, double patience_s = 60);

}  // namespace filo
