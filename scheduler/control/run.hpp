// `filo run`: passes in a loop in the foreground, until nothing is left to do.
#pragma once

#include <functional>
#include <vector>

#include "scheduler/control/coordinator.hpp"
#include "scheduler/control/run_progress.hpp"

namespace filo {

struct RunOptions {
  std::function<bool()> stop = [] {
    return false;
  };                     // asked for often; true once: stages write snapshots and the run ends
  double grace_s = 120;  // for those snapshots
  CoordinatorOptions coordinator{};
};

// While it lives, others see that the experiment is looked after (workspace/run_file.hpp). Returns when every stage is
// done, failed or blocked, stopped or cancelled, or after a stop. Failures of earlier runs are forgiven.
std::vector<StageStatus> run_plan(const Workspace& workspace, const Plan& plan, Executor& executor,
                                  RunProgress& progress, const RunOptions& options);

}  // namespace filo
