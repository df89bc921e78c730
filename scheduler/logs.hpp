// Reading the logs of stages: `filo logs`.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>

#include "scheduler/workspace.hpp"

namespace filo {

// The stage whose key begins with `digits`. Throws UsageError when there is none, or more than one.
std::string find_stage(const Workspace& workspace, const std::string& digits);

// Writes attempt `attempt` (0: the newest) of the stage's log to `out`; with `follow` goes on until the attempt has
// ended or `stop()`. Throws UsageError when there is no such attempt.
void print_log(const Workspace& workspace, const std::string& key, int attempt, bool follow, std::ostream& out,
               const std::function<bool()>& stop);

}  // namespace filo
